"""Focal and global distillation of the neck (detection)."""

from typing import Any

from torch import nn

from densekd.methods.levels import levels
from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter

ONE_STAGE = dict(alpha=1e-3, beta=5e-4, gamma=5e-4, lam=5e-6)
TWO_STAGE = dict(alpha=5e-5, beta=2.5e-5, gamma=5e-5, lam=5e-7)


@method()
def fgd(student: nn.Module, teacher: nn.Module, tau: float = 0.5, weight: float = 1.0) -> list[dict[str, Any]]:
    """Match objects and background apart, where the teacher attends, attention maps, and relations to the whole map.

    One entry for each level of the neck, of two-stage detectors without the last one, which is pooled from the one
    before. It reads the boxes of the labels. The weights of its terms are those of the authors' configs, which differ
    between one-stage and two-stage detectors, for images of 800x1333.

    Args:
        student: a detector with a neck.
        teacher: another one.
        tau: temperature of the attention. Published: 0.8 for FCOS.
        weight: of all entries. Published: 1.6 for FCOS and RepPoints.

    Raises:
        ValueError: the student is a segmenter, which has no boxes.

    Paper: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022.
    """
    if is_segmenter(student):
        raise ValueError(f"method 'fgd' needs boxes, {type(student).__name__} has none; use cwd or mgd")
    two_stage = hasattr(student, "roi_head")
    loss = {"type": "fgd", "tau": tau, **(TWO_STAGE if two_stage else ONE_STAGE)}
    entries = levels(student, teacher, "fgd")
    if two_stage and len(entries) > 1:
        entries = entries[:-1]
    return [{**entry, "loss": loss, "weight": weight} for entry in entries]
