"""Targets of all tasks: which one they are, whether they are whole, and which rows have some."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

_TASKS = ("single-label", "multi-label", "regression")


def task_of_targets(y: Tensor, task: str | None = None) -> str:
    """The task that targets are of, `(N,)` or `(N, k)`; the one given, if one is.

    Raises:
        ValueError: no such task.

    >>> task_of_targets(torch.tensor([[0, 1], [1, 1]])), task_of_targets(torch.tensor([0.5, 1.0]))
    ('multi-label', 'regression')
    """
    if task is not None:
        if task not in _TASKS:
            raise ValueError(f"task is one of {', '.join(map(repr, _TASKS))}, not {task!r}")
        return task
    if y.is_complex() or y.layout is not torch.strided or y.ndim not in (1, 2) or not y.numel():
        return "single-label"  # which says what is wrong
    y = _whole(y)
    told = y[known(y)]
    if y.is_floating_point():
        return "regression"
    one_hot = y.ndim == 2 and bool((told.sum(1) == 1).all())
    several = y.ndim == 2 and y.shape[1] > 1 and bool(((told == 0) | (told == 1)).all())
    return "multi-label" if several and not one_hot else "single-label"


def check_targets(y: Tensor, task: str, unlabelled: str) -> tuple[Tensor, int]:
    """Targets of several labels as integers `(N, L)`, or numbers as floats `(N, T)`, and how many there are.

    Raises:
        ValueError: they are something else, or some are missing and `unlabelled` is not `keep`.
    """
    y = y[:, None] if y.ndim == 1 and task == "regression" else y
    if y.ndim != 2 or not y.numel() or y.layout is not torch.strided or y.is_complex():
        raise ValueError(f"{task} targets are a dense tensor (N, k), got {y.dtype} {tuple(y.shape)}")
    y = _whole(y) if task == "multi-label" else y
    there = known(y)
    if unlabelled != "keep" and not there.all():
        node = int((~there).nonzero()[0, 0])
        raise ValueError(f"node {node} has no targets; for nodes without see Graph.of(data, unlabelled='keep')")
    told = y[there]
    if task == "regression":
        if not y.is_floating_point() and y.dtype is torch.bool:
            raise ValueError("regression targets are numbers, got truth values")
        if not told.isfinite().all():
            raise ValueError("a target is infinite")
        check_precision(told)
        return only(y.float(), there), y.shape[1]
    strange = ~((told == 0) | (told == 1))
    if strange.any():
        raise ValueError(f"multi-label targets are 0 and 1, got {told[strange][0].item():g}")
    return only(torch.where(there[:, None], y, 0).long(), there), y.shape[1]


def check_precision(told: Tensor, name: str = "y") -> None:
    """Look whether float32, in which networks learn, can hold targets `(n, T)`.

    Raises:
        ValueError: one is too large.

    Warns:
        UserWarning: rounding changes them by more than a hundredth of their standard deviation.

    >>> check_precision(torch.tensor([[1e39]], dtype=torch.float64))
    Traceback (most recent call last):
    ValueError: y holds a number of 1e+39; float32 ends at 3.4e+38: choose a larger unit
    """
    given = told.double()
    rounded = given.float().double()
    if not rounded.isfinite().all():
        largest = given.abs().max().item()
        raise ValueError(f"{name} holds a number of {largest:.3g}; float32 ends at 3.4e+38: choose a larger unit")
    if not len(given):
        return
    lost, spread = (each.std(0, correction=0) for each in (rounded - given, given))
    if ((lost > 0.01 * spread) & (given != given[0]).any(0)).any():
        warnings.warn(
            f"the numbers of {name} differ by too little, or are too small, for float32, in which networks learn: "
            "subtract a constant, or choose a smaller unit",
            stacklevel=3,
        )


def _whole(y: Tensor) -> Tensor:
    """Floats that are all whole numbers as integers, NaN as -1."""
    if not y.is_floating_point():
        return y
    filled = y.where(y == y, -1)
    return filled.long() if filled.isfinite().all() and torch.equal(filled, filled.round()) else y


def known(targets: Tensor) -> Tensor:
    """Mask `(N,)` of the rows that have targets: no -1, of floats no NaN.

    >>> known(torch.tensor([[0, 1], [-1, -1]])), known(torch.tensor([[0.5], [float("nan")]]))
    (tensor([ True, False]), tensor([ True, False]))
    """
    floats = targets.is_floating_point()
    there = targets == targets if floats else targets >= 0
    return there if there.ndim == 1 else there.all(1)


def only(targets: Tensor, rows: Tensor) -> Tensor:
    """The targets of the rows of a mask `(N,)`; of the others -1, of floats NaN."""
    rows = rows if targets.ndim == 1 else rows[:, None]
    return targets.where(rows, torch.nan if targets.is_floating_point() else -1)
