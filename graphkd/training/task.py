"""What is to be predicted: one class, several labels or numbers. Its loss on labels, its soft loss, its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from kdlosses.experts import mixture
from kdlosses.options import nearest


@dataclass(frozen=True)
class Task:
    """One kind of target.

    Attributes:
        name: its key in `TASKS`.
        hard: loss of outputs `(n, C)` against targets, all known.
        soft: name of the loss of a student's outputs against a teacher's.
        answer: outputs `(n, C)` to what they predict.
        together: outputs of several teachers `(n, E, C)` to those of their mean prediction `(n, C)`.
        scoring: name of the scorer that is used if none is named.
    """

    name: str
    hard: Callable[[Tensor, Tensor], Tensor]
    soft: str
    answer: Callable[[Tensor], Tensor]
    together: Callable[[Tensor], Tensor]
    scoring: str


def _each_label(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none").sum(1).mean()


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets.to(outputs))


def _label_of_all(logits: Tensor) -> Tensor:
    """Logits of the mean of the teachers' sigmoids."""
    return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)


TASKS: dict[str, Task] = {
    "single-label": Task("single-label", F.cross_entropy, "kl", lambda z: z.argmax(1), mixture, "accuracy"),
    "multi-label": Task("multi-label", _each_label, "binary_kl", lambda z: (z > 0).long(), _label_of_all, "f1_micro"),
    "regression": Task("regression", _squared, "mse", lambda z: z, lambda z: z.mean(1), "r2"),
}
"""Targets `(N,)` of classes; `(N, L)` of 0 and 1, with a sigmoid for each label; `(N, T)` of floats."""


def task_of(name: str) -> Task:
    """Look a task up.

    >>> task_of("multilabel")
    Traceback (most recent call last):
    KeyError: "no task is called 'multilabel'; did you mean 'multi-label' or 'single-label'?"
    """
    if name not in TASKS:
        raise KeyError(f"no task is called {name!r}; {nearest(str(name), TASKS)}")
    return TASKS[name]
