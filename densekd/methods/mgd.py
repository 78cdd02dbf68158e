"""Masked generation of the feature before the logits (segmentation) or of the neck (detection)."""

from typing import Any

from torch import nn

from densekd.methods.levels import levels
from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter


@method()
def mgd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Generate the teacher's features from masked student features, with separate convolutions for each level.

    The published alpha, 2e-5, of two-stage detectors 5e-7, times the positions of the level in the published setting
    is the weight here: 512x1024 images for segmenters, with a feature of stride 8, or a neck from stride 4 on; 800x1333
    for detectors, with a neck from stride 8 on, of two-stage ones from 4 on. It falls by four from level to level.

    Paper: Yang et al., "Masked Generative Distillation", ECCV 2022.
    """
    entries = levels(student, teacher, "mgd")
    if is_segmenter(student):
        alpha, share, positions = 2e-5, 0.75, 512 * 1024 / (8**2 if len(entries) == 1 else 4**2)
    elif hasattr(student, "roi_head"):
        alpha, share, positions = 5e-7, 0.45, 800 * 1333 / 4**2
    else:
        alpha, share, positions = 2e-5, 0.65, 800 * 1333 / 8**2
    loss = {"type": "mgd", "share": share}
    return [{**entry, "loss": loss, "weight": alpha * positions / 4**i} for i, entry in enumerate(entries)]
