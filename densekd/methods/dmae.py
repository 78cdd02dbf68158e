"""Tokens in the middle of one transformer, from the middle of another."""

from fractions import Fraction
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import block


@method()
def dmae(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match normalised tokens two thirds up the student, after a linear layer, with those 17/24 up the teacher.

    Those depths are the paper's blocks 8 of 12 and 17 of 24; its weight is 1. Where both have as many tokens they are
    matched one by one, class tokens too; else they are read as maps without class tokens, the student's resized to the
    teacher's. The teacher runs no further than to its block.

    What is published is pre-training: both see the quarter of the patches that is visible, and the student reconstructs
    the others beside. Here both see the whole image, and the student's own loss stands in the place of the
    reconstruction. Masked inputs would cost a second forward of the student, as its own loss needs the image whole. A
    transform of the pipeline that blanks patches, such as mmseg's `RandomCutOut`, masks for both without one, and then
    for the student's own loss, too; all tokens go on counting.

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
