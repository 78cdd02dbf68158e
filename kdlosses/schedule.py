"""Schedules: numbers that change during training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kdlosses.reduce import nothing
from kdlosses.registry import Loss

SHAPES = ("linear", "cosine")


def along(progress: float, start: float, end: float, over: Sequence[float], shape: str) -> float:
    """Interpolate from `start` to `end` over the stretch `over`; exactly `start` before it and `end` after it.

    >>> [along(p, 3.0, 1.0, over=(0.0, 0.5), shape="linear") for p in (0.0, 0.25, 0.5, 1.0)]
    [3.0, 2.0, 1.0, 1.0]
    >>> round(along(0.25, 0.0, 1.0, over=(0.0, 1.0), shape="cosine"), 4)
    0.1464
    """
    begin, finish = over
    if progress <= begin:
        return start
    if progress >= finish:
        return end
    done = (progress - begin) / (finish - begin)
    if shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return (1 - done) * start + done * end


def check_way(name: str, over: Sequence[float], shape: str) -> None:
    """Raise `ValueError` if `over` is not a stretch of the training or `shape` is unknown."""
    if len(over) != 2 or not 0 <= over[0] < over[1] <= 1:
        raise ValueError(f"{name}: over must be a stretch of the training such as (0.0, 0.2), got {over!r}")
    if shape not in SHAPES:
        raise ValueError(f"{name}: shape must be one of {SHAPES}, got {shape!r}")


def scaled(factor: float, loss: Loss, student: Tensor, teacher: Tensor, context: dict[str, Any]) -> Tensor:
    """Factor times the loss; at factor 0 the loss is not computed, so that its NaN or errors do not matter."""
    if factor == 0:
        return nothing(student)
    return factor * loss(student, teacher, **context)
