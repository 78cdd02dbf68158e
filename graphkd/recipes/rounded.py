from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from graphkd.recipes.registry import RECIPES, recipe
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.quantise import bake, quantise


@recipe()
def rounded(
    model: nn.Module,
    lesson: Lesson,
    *,
    bits: int = 4,
    bucket: int = 256,
    ends: bool = True,
    method: str | Mapping[str, Any] | Callable[..., History] = "glnn",
) -> History:
    """Any recipe in full precision, with weights rounded to a few bits at the end: the control for `quant_distill`.

    The epoch was chosen before that, by the accuracy in full precision, which is also what the history holds.

    Args:
        model: the student, trained in place.
        lesson: what the method needs.
        bits: of a weight, see `kdlosses.rules.EvenPoints`.
        bucket: weights that share a scale.
        ends: round the first and the last layer too.
        method: any recipe.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018, where it is the baseline.
    """
    inner, options = resolve("method", method, RECIPES)
    quantise(copy.deepcopy(model), bits, bucket, ends=ends)  # what is wrong is said before training
    history = inner(model, lesson, **options)
    bake(quantise(model, bits, bucket, ends=ends))
    return history
