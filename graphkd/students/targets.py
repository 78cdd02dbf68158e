"""Targets of students that are no classes: several labels, or numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.data.targets import check_precision


def is_indicator(y: Any) -> bool:
    """Whether labels are several a row: numbers `(n, L)` with L of 2 or more, 0 and 1 or, where unknown, -1 or NaN."""
    if not hasattr(y, "shape") and not isinstance(y, list | tuple):
        return False
    try:
        found = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    except ValueError:  # rows of unlike length
        return False
    if found.ndim != 2 or found.shape[1] < 2 or found.dtype.kind not in "biuf":
        return False
    return bool((np.isin(found, (-1, 0, 1)) | (found != found)).all())


def read_targets(y: Any, told: np.ndarray, task: str, name: str = "y") -> Tensor:
    """Targets `(n, k)`: integers of several labels, else floats; -1 or NaN in the rows that are not told.

    Raises:
        ValueError: they are no numbers of this kind, or one that is told is missing.
    """
    found = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or not found.shape[1] or found.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {task} targets, numbers (n,) or (n, k); got {found.dtype} {found.shape}")
    if len(found) != len(told):
        raise ValueError(f"{name} has {len(found)} rows, X has {len(told)}")
    good = np.isin(found, (0, 1)) if task == "multi-label" else np.isfinite(found)
    wrong = told & ~good.all(1)
    if wrong.any():
        row = int(wrong.argmax())
        wanted = "0 and 1" if task == "multi-label" else "finite numbers"
        raise ValueError(
            f"row {row} of {name} is {found[row].tolist()}; expected {wanted}: leave rows without targets out of "
            "labelled"
        )
    if task == "regression" and told.any():
        check_precision(torch.from_numpy(found[told].astype(np.float64)), name)
    kept = torch.from_numpy(np.where(told[:, None], found, 0).astype(np.float32))
    mask = torch.from_numpy(told)[:, None]
    return kept.long().where(mask, -1) if task == "multi-label" else kept.where(mask, torch.nan)
