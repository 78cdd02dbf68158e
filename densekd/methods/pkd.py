"""Pearson feature matching of the neck (detection) or of the pre-logit feature (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter, tap


@method()
def pkd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match features up to scale and shift of each channel.

    Weight 10 on each neck level of a one-stage detector, 6 of a two-stage one, as published. The paper has no recipe
    for segmenters: there the feature before the logits, weight 10.

    Paper: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
    NeurIPS 2022.
    """
    two_stage = not is_segmenter(student) and hasattr(student, "roi_head")
    return [
        {
            "loss": "pkd",
            "student": tap(student, "features"),
            "teacher": tap(teacher, "features"),
            "weight": 6.0 if two_stage else 10.0,
        }
    ]
