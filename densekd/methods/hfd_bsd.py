"""Mutual distillation of a convolutional network and a transformer (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import blocks, is_segmenter, tap


@method(online=True)
def hfd_bsd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match low-level features both ways; the network with the lower error teaches regions and pixels.

    The teacher learns beside the student and needs no checkpoint. In both directions: `hfd` on the first stages of the
    backbones, weight 0.1; `bsd_region` on their last stages, weight 0.1; `bsd_pixel` on the logits, with a weight that
    rises to 1 over the first fifth of the training. Each side has its own losses on the labels. Either may be the
    transformer, which has blocks of attention in its backbone.

    In a region and at a pixel the one with the lower cross-entropy teaches; if they are equal, the teacher does.

    Raises:
        ValueError: one of them is no segmenter.

    Paper: Zhu et al., "A Good Student is Cooperative and Reliable: CNN-Transformer Collaborative Learning for Semantic
    Segmentation", ICCV 2023, for the idea. Its formulas and weights were not available to us: these are our own.
    """
    for model in (student, teacher):
        if not is_segmenter(model):
            raise ValueError(f"method 'hfd_bsd' is for segmenters, {type(model).__name__} has no decode head")
    logits = {"student": tap(student, "logits"), "teacher": tap(teacher, "logits")}
    entries: list[dict[str, Any]] = []
    for back, guide in ((False, teacher), (True, student)):
        end, bsd = "_back" if back else "", {"ties": not back}
        hfd = {"type": "hfd", "translate": "attention" if blocks(guide) else "convolution"}
        pixel = {"type": "ramp", "loss": {"type": "bsd_pixel", **bsd}, "over": (0.0, 0.2)}
        region = {"loss": {"type": "bsd_region", **bsd}, "student": "backbone:-1", "adapt": "conv1x1", "weight": 0.1}
        entries += [
            {"loss": hfd, "student": "backbone:0", "weight": 0.1, "back": back, "name": f"hfd{end}"},
            {**region, "back": back, "name": f"region{end}"},
            {"loss": pixel, **logits, "back": back, "name": f"pixel{end}"},
        ]
    return entries
