"""Losses over pairs of positions typed straight down, with the whole matrix, for `benchmark_dense.py`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def acam(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    """`acam` on maps `(N, C, h, w)` with the parameters of `loss`: each position attends to each."""
    query, key, value = (x.flatten(2) for x in (loss.query(teacher), loss.key(student), loss.value(student)))
    found = value @ (query.mT @ key / math.sqrt(query.shape[1])).softmax(2).mT
    of_channels = (loss.of_channels * found.mean(2).unsqueeze(1)).sigmoid()
    of_positions = (loss.of_positions @ found).sigmoid()
    error = (student - teacher).square().flatten(2)
    masks = range(of_channels.shape[1])
    total = sum(
        (of_channels[:, m].detach().unsqueeze(2) * error).sum(1).mean()
        + (of_positions[:, m].detach().unsqueeze(1) * error).mean(1).sum(1).mean()
        for m in masks
    ) / len(masks)
    for kind in (of_channels, of_positions):
        for one, other in itertools.permutations(kind.unbind(1), 2):
            dice = 2 * (one * other).sum(1) / (one.square().sum(1) + other.square().sum(1))
            total = total + loss.diversity * dice.mean()
    return total


def cirkd_pairs(loss: Any, student: Tensor, teacher: Tensor, tau: float = 0.1) -> Tensor:
    """`cirkd_pairs` on maps `(N, C, h, w)`: a matrix of all positions for each pair of images."""
    s, t = (F.normalize(x.flatten(2).mT, dim=2) for x in (student, teacher))
    divergences = [
        F.kl_div(
            (s[one] @ s[other].T / tau).log_softmax(1),
            (t[one] @ t[other].T / tau).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        for one, other in itertools.product(range(len(s)), repeat=2)
    ]
    return torch.stack(divergences).mean()


NAIVE: dict[str, Callable[..., Tensor]] = {"acam": acam, "cirkd_pairs": cirkd_pairs}
