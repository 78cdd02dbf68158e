"""Tokens of an intermediate transformer block."""

from fractions import Fraction
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import block


@method()
def dmae(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match normalised tokens of two blocks: at 2/3 of the student's depth, projected, and at 17/24 of the teacher's.

    Those depths are the paper's blocks 8 of 12 and 17 of 24; its weight is 1. Where both have as many tokens they are
    matched one by one, class tokens too; else they are read as maps without class tokens, the student's resized to the
    teacher's. The teacher's forward stops after its block.

    The published method is pre-training: both see the visible quarter of the patches, and the student also rebuilds
    the others. That is `densekd pretrain --masked dmae`, which needs no labels. Here, beside the labels, both see the
    whole image, and the student's own loss replaces the reconstruction: masked inputs would cost a second forward of
    the student, as its own loss needs the image whole.

    Raises:
        ValueError: one of the backbones has no transformer blocks.

    Paper: Bai et al., "Masked Autoencoders Enable Efficient Knowledge Distillers", CVPR 2023. Factor 1.
    """
    return [
        {
            "loss": "dmae",
            "student": block(student, Fraction(2, 3)),
            "teacher": block(teacher, Fraction(17, 24)),
            "weight": 1.0,
        }
    ]
