"""Channel-wise distillation of logits (segmentation) or of the neck (detection)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter, tap


@method()
def cwd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the spatial distribution of each channel.

    Segmenters: class logits, tau 4, weight 3 (the authors' recipe). Detectors: each neck level, tau 1, weight 10.

    Paper: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.
    """
    if is_segmenter(student):
        loss, kind, weight = {"type": "cwd", "tau": 4.0}, "logits", 3.0
    else:
        loss, kind, weight = {"type": "cwd", "tau": 1.0}, "features", 10.0
    return [{"loss": loss, "student": tap(student, kind), "teacher": tap(teacher, kind), "weight": weight}]
