from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.selfdistill_weight import selfdistill_weight


@dataclass
class Weighed(History):
    """A history with the weight of the labels as it was found, before it was clipped to 0..1."""

    label_weight: float = 0.5


@recipe()
def selfdistill(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float | None = None,
    held: float = 0.25,
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Choose the weight of the labels against the teacher from two fits instead of a grid.

    $$ \lambda = a^* = \frac{\langle y - g, f - g \rangle}{\| f - g \|^2} \text{ on held-out labels}, \qquad
       L = L_\mathrm{method}(\lambda) $$

    See `kdlosses.rules.selfdistill_weight`: f is the student after a fit to the labels alone, g after one to the
    teacher alone, both without a part of the labels; then the student is fitted anew with $\lambda$ and all labels.
    Cross-entropy is linear in its target as the squared error of the paper is, so that `glnn` with $\lambda$ fits the
    mixed target there where both exist; for a network the closed form remains an approximation. The teacher has seen
    the labels that are held out of the student's fits, which favours the teacher: $a^*$ errs to the low side.

    Args:
        model: the student, trained in place, three times.
        lesson: what the method needs.
        lam: the weight; found as above if not given.
        held: share of the labelled nodes that is held out of the first two fits.
        method: any recipe with an option `lam`.

    Returns:
        a history whose `label_weight` is $a^*$; its seconds are those of all fits.

    Paper: Borup, Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation", NeurIPS 2021. What is held out, and the use on a graph, are our own.
    """
    inner, options = resolve("method", method, RECIPES)
    if "lam" in options:
        raise ValueError("selfdistill: lam is what is fitted; to set it, pass lam to selfdistill itself")
    resolve("method", {"type": inner, "lam": 0.0}, RECIPES)
    if lam is not None:
        return inner(model, lesson, lam=lam, **options)
    told = lesson.labelled
    out = told[torch.randperm(len(told), generator=lesson.generator)[: int(held * len(told))]]
    if not 0 < len(out) < len(told):
        raise ValueError(f"selfdistill: held={held} of {len(told)} labels leaves none to hold out or none to fit to")
    part = replace(lesson, labels=lesson.labels.index_fill(0, out, -1))
    start = copy.deepcopy(model.state_dict())
    fits, seconds = [], []
    for end in (1.0, 0.0):
        model.load_state_dict(start)
        seconds += inner(model, part, lam=end, **options).seconds
        with torch.no_grad():
            fits.append(model.eval()(rows(lesson.x, out)).softmax(1))
    model.load_state_dict(start)
    target = F.one_hot(lesson.labels[out], fits[0].shape[1]).to(fits[0].dtype)
    found = selfdistill_weight(target, *fits).item()
    weight = min(max(found, 0.0), 1.0)
    if weight != found:
        warnings.warn(f"selfdistill: the best weight of the labels is {found:.3f}, taken as {weight:.0f}", stacklevel=2)
    history = inner(model, lesson, lam=weight, **options)
    history.seconds = seconds + history.seconds
    return Weighed(**vars(history), label_weight=found)
