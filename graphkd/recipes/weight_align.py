from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import RECIPES, recipe
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.weight_align import weight_align as align


@recipe()
def weight_align(
    model: MLP,
    lesson: Lesson,
    *,
    old: int | None = None,
    method: str | Mapping[str, Any] | Callable[..., History] = "incremental",
) -> History:
    """Any recipe, then scale the last layer's weights of new classes to the norm of the old ones.

    See `kdlosses.rules.weight_align`. The epoch was chosen before that, by the accuracy without it, which is also what
    the history holds.

    Args:
        model: the student, trained in place.
        lesson: what the method needs.
        old: number of old classes, the first ones; half of all if not given.
        method: any recipe.

    Paper: Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020.
    """
    inner, options = resolve("method", method, RECIPES)
    classes = model.widths[-1]
    old = classes // 2 if old is None else old
    if not 0 < old < classes:
        raise ValueError(f"weight_align: of {classes} classes 1 to {classes - 1} can be old, got {old}")
    history = inner(model, lesson, **options)
    align(model.layers[-1], old)
    return history
