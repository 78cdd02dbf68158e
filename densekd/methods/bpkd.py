"""Boundaries and bodies of classes apart (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits


def bpkd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the classes of pixels on the edge of a class, and channel by channel what is away from it.

    Weight 50 on the edges, 20 on the bodies, tau 4, as two re-implementations have them.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Liu et al., "BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation", WACV 2024.
    """
    taps = logits("bpkd", student, teacher)
    return [{"loss": "bpkd_edge", **taps, "weight": 50.0}, {"loss": "bpkd_body", **taps, "weight": 20.0}]
