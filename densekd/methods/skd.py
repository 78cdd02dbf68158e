"""Structured distillation: pixels, pairs of patches and whole maps (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method


@method()
def skd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match class probabilities, cosines between patches, and whole maps by a critic.

    Pixels: `kl` on the logits, tau 1, weight 1. Pairs: `skd_pairs` on the feature before the logits, weight 10. Maps:
    `skd_holistic` on the logits, weight 0.1, where the form of the critic is in part our own.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019.
    """
    on_logits = logits("skd", student, teacher)
    return [
        {"loss": "kl", **on_logits, "weight": 1.0},
        {"loss": "skd_pairs", **features("skd", student, teacher), "weight": 10.0},
        {"loss": "skd_holistic", **on_logits, "weight": 0.1},
    ]
