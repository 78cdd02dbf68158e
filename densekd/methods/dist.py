"""Correlations of predictions (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method


@method()
def dist(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match by correlation: the class probabilities of each pixel, and those of each class over the batch.

    Tau, beta and gamma 1, as published for segmentation, on the logits.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022.
    """
    return [{"loss": "dist", **logits("dist", student, teacher), "weight": 1.0}]
