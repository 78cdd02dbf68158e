"""Classical distillation: the teacher's class distribution at every position."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method
from densekd.taps.roi_heads import pairs_of


@method()
def kl(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the softmax over classes at each pixel of a segmenter's logits, tau 1, weight 1.

    Of a two-stage detector that of each proposal that the student samples, of which the teacher is asked, too, see
    `proposals`.

    Raises:
        ValueError: the student is a one-stage detector, whose class scores are independent sigmoids, or the teacher of
            a two-stage one is none.

    Paper: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; setting of Yang et al., "Cross-Image
    Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022.
    """
    if hasattr(student, "roi_head"):
        pairs = pairs_of("kl", student, teacher, "classes")
        return [{"loss": "kl", **taps, "weight": 1.0, "name": name} for name, taps in pairs.items()]
    return [{"loss": "kl", **logits("kl", student, teacher), "weight": 1.0}]
