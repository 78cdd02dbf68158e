"""Token relations of a middle block, token features of the last block."""

from fractions import Fraction
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import block


@method()
def hybrid(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match token relations of the middle block, and projected, normalised tokens of the last block; weights 1.

    Relations: loss `hybrid`, without the half of the tokens that are most like the others in the end. Features: loss
    `g2sd`. The forms of both, the depth and the half are our own; from the paper are intermediate layers for the one,
    the last for the other, fewer and fewer tokens, and (by a review) weights of 1.

    The published method is pre-training with two teachers, a masked auto-encoder for the relations and a contrastive or
    supervised network for the features. Here one teacher gives both, in fine-tuning; with two write the two entries
    with a `source` each.

    Raises:
        ValueError: one of the backbones has no transformer blocks.

    Paper: Shi et al., "Hybrid Distillation: Connecting Masked Autoencoders with Contrastive Learners", ICLR 2024.
    """
    half, end = Fraction(1, 2), Fraction(1)
    return [
        {
            "loss": {"type": "hybrid", "drop": 0.5},
            "student": block(student, half),
            "teacher": block(teacher, half),
            "weight": 1.0,
            "name": "relations",
        },
        {
            "loss": "g2sd",
            "student": block(student, end),
            "teacher": block(teacher, end),
            "adapt": "conv1x1",
            "weight": 1.0,
            "name": "features",
        },
    ]
