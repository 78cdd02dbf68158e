from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.selfdistill_steps import selfdistill_steps
from kdlosses.rules.selfdistill_weight import selfdistill_weight


@dataclass
class Weighed(History):
    """A history with the weights of the labels as they were found, before they were clipped to 0..1.

    Attributes:
        label_weight: of the last step.
        label_weights: of each step.
    """

    label_weight: float = 0.5
    label_weights: Sequence[float] = ()


@recipe()
def selfdistill(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float | None = None,
    steps: int = 1,
    held: float = 0.25,
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    r"""Choose the weight of the labels against the teacher from two fits instead of a grid, step by step.

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
        lam: the weight of every step; found as above if not given.
        steps: how often the student becomes the teacher of the next one, with a weight of its own each time, see
            `kdlosses.rules.selfdistill_steps`; the first step has the graph's teacher.
        held: share of the labelled nodes that is held out of the first two fits.
        method: any recipe with an option `lam`.

    Returns:
        a history whose `label_weights` are $a^*$ of each step; its seconds are those of all fits.

    Paper: Borup, Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation", NeurIPS 2021. What is held out, and the use on a graph, are our own.
    """
    inner, options = resolve("method", method, RECIPES)
    if "lam" in options:
        raise ValueError("selfdistill: lam is what is fitted; to set it, pass lam to selfdistill itself")
    resolve("method", {"type": inner, "lam": 0.0}, RECIPES)
    if lam is not None and steps == 1:
        return inner(model, lesson, lam=lam, **options)
    told = lesson.labelled
    out = told[torch.randperm(len(told), generator=lesson.generator)[: int(held * len(told))]]
    if lam is None and not 0 < len(out) < len(told):
        raise ValueError(f"selfdistill: held={held} of {len(told)} labels leaves none to hold out or none to fit to")
    part = replace(lesson, labels=lesson.labels.index_fill(0, out, -1))
    start = copy.deepcopy(model.state_dict())
    histories: list[History] = []

    def fit(teacher: Any, weight: float, whole: bool) -> Any:
        model.load_state_dict(start)
        given = lesson if whole else part
        if teacher is not None and teacher is not lesson.teacher:  # the student of the step before
            given = replace(given, teacher=teacher, hidden=(), parts=())
        histories.append(inner(model, given, lam=weight, **options))
        return lesson.predict(model)

    def compare(taught: Tensor, retaught: Tensor) -> float:
        target = F.one_hot(lesson.labels[out], taught.shape[1]).to(taught.dtype)
        found = selfdistill_weight(target, taught[out].softmax(1), retaught[out].softmax(1)).item()
        if not 0 <= found <= 1:
            nearer = min(max(found, 0.0), 1.0)
            warnings.warn(
                f"selfdistill: the best weight of the labels is {found:.3f}, taken as {nearer:.0f}", stacklevel=2
            )
        return found

    given = None if lam is None else [lam] * steps
    _, found = selfdistill_steps(fit, compare, steps, lesson.teacher, given)
    history = histories[-1]
    history.seconds = [each for past in histories for each in past.seconds]
    return Weighed(**vars(history), label_weight=found[-1], label_weights=found)
