"""Intra-class feature variation (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features
from densekd.methods.registry import method


@method()
def ifvd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the cosine of each pixel's feature to the mean feature of its class in the image.

    Weight 20 on the feature before the logits; labels are brought to its size by nearest neighbour.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020. The authors'
    code has 200 by default, and beside it a pixel-wise and an adversarial term, which `skd` has.
    """
    return [{"loss": "ifvd", **features("ifvd", student, teacher), "weight": 20.0}]
