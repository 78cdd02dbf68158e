"""Relations between the pixels of different images (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method


@method()
def cirkd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match class probabilities, pixel similarities within the batch, and pixel similarities to a memory.

    `kl` on the logits, tau 1, weight 1; on the feature before them `cirkd_pairs`, weight 1, and `cirkd_memory`, weight
    0.1 for pixels and for regions alike.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022.
    """
    before = features("cirkd", student, teacher)
    return [
        {"loss": "kl", **logits("cirkd", student, teacher), "weight": 1.0},
        {"loss": "cirkd_pairs", **before, "weight": 1.0},
        {"loss": "cirkd_memory", **before, "weight": 0.1},
    ]
