"""Values that people pass by mistake, or by right but in another form."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

SCALARS: list[Any] = [
    *(0, 1, -1, 2, 7, 10**9, 0.0, 0.5, -0.5, 1.0, 1e-30, 1e30, math.inf, -math.inf, math.nan),
    *(True, False, None, "", "auto", "0.5", "nearest", [], (), {}, [1], [0.5, 2.0], (1, 2), {"a": 1}),
    *(np.float32(0.5), np.int64(3), np.array(2.0), np.array([1, 2]), torch.tensor(0.5), torch.tensor([1, 2]), 1j),
    *(object, len, b"x"),
]


def damaged(tensor: Any, draw: random.Random) -> tuple[str, Any]:
    """The tensor with one thing about it changed, and what that was; of anything else, something else."""
    if not isinstance(tensor, Tensor) or not tensor.ndim or tensor.is_sparse or tensor.is_meta:
        other = draw.choice(SCALARS)
        return repr(other), other
    n, rest = tensor.shape[0], tensor.shape[1:]
    changes: list[tuple[str, Callable[[], Any]]] = [
        ("as it is", lambda: tensor),
        ("None", lambda: None),
        ("a number", lambda: 1.0),
        ("a string", lambda: "logits"),
        ("an array", lambda: tensor.detach().numpy()),
        ("a list", lambda: tensor.detach().tolist()),
        ("float16", lambda: tensor.half()),
        ("bfloat16", lambda: tensor.bfloat16()),
        ("float64", lambda: tensor.double()),
        ("int64", lambda: tensor.long()),
        ("bool", lambda: tensor > 0),
        ("complex", lambda: torch.complex(tensor.double(), tensor.double())),
        ("one row less", lambda: tensor[1:]),
        ("one row", lambda: tensor[:1]),
        ("no row", lambda: tensor[:0]),
        ("flat", lambda: tensor.flatten()),
        ("a scalar", lambda: tensor.double().mean()),
        ("an axis more", lambda: tensor[..., None]),
        ("an axis in front", lambda: tensor[None]),
        ("halves in front", lambda: tensor[: n // 2 * 2].reshape(2, n // 2, *rest)),
        ("moved axes", lambda: tensor.movedim(0, -1)),
        ("NaN", lambda: torch.full_like(tensor.double(), math.nan)),
        ("one NaN", lambda: _one(tensor, math.nan)),
        ("one infinity", lambda: _one(tensor, math.inf)),
        ("huge", lambda: tensor.double() * 1e30),
        ("zeros", lambda: torch.zeros_like(tensor)),
        ("negative", lambda: -tensor.double().abs() - 1),
        ("too large", lambda: tensor + 1000),
        ("sparse", lambda: tensor.detach().to_sparse()),
        ("on meta", lambda: tensor.to("meta")),
        ("strided", lambda: torch.stack([tensor, tensor], -1)[..., 0]),
    ]
    if tensor.ndim > 1:
        changes += [
            ("one channel", lambda: tensor[:, :1]),
            ("two channels", lambda: tensor[:, :2]),
            ("no channel", lambda: tensor[:, :0]),
            ("a channel more", lambda: torch.cat([tensor, tensor[:, :1]], 1)),
        ]
    if tensor.ndim > 2:
        changes += [("smaller map", lambda: tensor[..., 1:]), ("empty map", lambda: tensor[..., :0])]
    name, change = draw.choice(changes)
    return name, change()


def _one(tensor: Tensor, value: float) -> Tensor:
    found = tensor.detach().double().clone()
    found.view(-1)[len(found.view(-1)) // 2] = value
    return found
