"""Classical distillation: the teacher's class distribution at every position."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method


@method()
def kl(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the softmax over classes at each pixel of a segmenter's logits, tau 1, weight 1.

    Raises:
        ValueError: the student is a detector. The class scores of one-stage detectors are independent sigmoids, and a
            two-stage detector scores proposals that its teacher does not share.

    Paper: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; setting of Yang et al., "Cross-Image
    Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022.
    """
    return [{"loss": "kl", **logits("kl", student, teacher), "weight": 1.0}]
