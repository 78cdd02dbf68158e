"""Dual-head optimisation: labels and teacher train a head each, whose predictions are mixed (segmentation)."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method
from kdlosses.outputs import output_at


@method()
def dho(
    student: nn.Module,
    teacher: nn.Module,
    tau: float = 2.0,
    weight: float = 1.0,
    class_weight: str | Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Match the teacher by `kl` on the second of two heads that the student keeps; it predicts by both.

    `class_weight` is that of an entry: how much the pixels of each class count, `task` as in the task.

    Raises:
        ValueError: the student is no segmenter, or its last layer has no second head.

    Paper: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
    Optimization", 2025.
    """
    taps = logits("dho", student, teacher)
    output_at(student, taps["student"], "two_heads", "method 'dho'")
    second = f"{taps['student']}.second"
    weights = {"weight": weight, "class_weight": class_weight}
    return [{"loss": {"type": "kl", "tau": tau}, **taps, "student": second, **weights}]
