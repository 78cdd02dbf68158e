"""Dual-head optimisation: labels and teacher train a head each, whose predictions are mixed (segmentation)."""

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
) -> list[dict[str, Any]]:
    """Match the teacher by `kl` on the second of two heads that the student keeps; it predicts by both.

    Raises:
        ValueError: the student is no segmenter, or its last layer has no second head.

    Paper: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
    Optimization", 2025.
    """
    taps = logits("dho", student, teacher)
    output_at(student, taps["student"], "two_heads", "method 'dho'")
    second = f"{taps['student']}.second"
    return [{"loss": {"type": "kl", "tau": tau}, **taps, "student": second, "weight": weight}]
