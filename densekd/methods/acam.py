"""Adaptive and cooperative attention masks on the logits (segmentation) or the neck (detection)."""

from typing import Any

from torch import nn

from densekd.context import classes_of
from densekd.methods.levels import levels
from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter, tap


@method()
def acam(student: nn.Module, teacher: nn.Module, spatial_mean: bool = False) -> list[dict[str, Any]]:
    """Match features under attention masks that are learned from both models; weight 1.

    Segmenters: class logits, a mask of either kind for each class. Detectors: each level of the neck, six masks.

    Args:
        student: a segmenter or detector.
        teacher: another one.
        spatial_mean: see the loss `acam`; the published term of positions is a sum.

    Paper: Lan and Tian, "ACAM-KD: Adaptive and Cooperative Attention Masking for Knowledge Distillation", ICCV 2025.
    """
    how = {"spatial_mean": True} if spatial_mean else {}
    if not is_segmenter(student):
        return [
            {**entry, "loss": {"type": "acam", "count": 6, **how}, "weight": 1.0}
            for entry in levels(student, teacher, "acam")
        ]
    loss = {"type": "acam", "count": classes_of(student)[0], **how}
    return [{"loss": loss, "student": tap(student, "logits"), "teacher": tap(teacher, "logits"), "weight": 1.0}]
