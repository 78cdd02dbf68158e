"""First the teacher's decoder features, then its predicted classes."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def g2sd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match decoder features in the first 0.6 of the training (generic stage), then predicted classes (specific).

    Generic: the feature before the logits, through a linear layer, is matched with the teacher's, normalised at each
    position (loss `g2sd`, beta 2). Specific: cross-entropy with the teacher's first class at each pixel. Weights 1: in
    the specific stage teacher and labels count the same, as published, where both have 1/2. The stages share the
    training as the paper's 300 and 200 epochs do.

    The published generic stage is pre-training on masked images without labels: the decoder of an auto-encoder and its
    masked tokens. Here the decoder is the one of the segmenter, both see the whole image, every position counts, and
    the student's own loss is on in both stages; that is our own. In the specific stage the paper's teacher supervises a
    distillation token, here the student's only logits.

    Raises:
        ValueError: one of the models has no class logits at each pixel.

    Paper: Huang et al., "Generic-to-Specific Distillation of Masked Autoencoders", CVPR 2023. Factors 1.
    """
    generic, specific = (
        {"student": tap(student, kind), "teacher": tap(teacher, kind)} for kind in ("features", "logits")
    )
    first, then = (
        {"type": "stages", "losses": losses}
        for losses in ([(0.6, "g2sd"), (1.0, None)], [(0.6, None), (1.0, "pseudo")])
    )
    return [
        {"loss": first, **generic, "adapt": "conv1x1", "weight": 1.0, "name": "generic"},
        {"loss": then, **specific, "weight": 1.0, "name": "specific"},
    ]
