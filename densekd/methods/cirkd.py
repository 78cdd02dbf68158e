"""Relations between the pixels of different images (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method


@method()
def cirkd(student: nn.Module, teacher: nn.Module, pool: int = 1) -> list[dict[str, Any]]:
    """Match class probabilities, pixel similarities within the batch, and pixel similarities to a memory.

    `kl` on the logits, tau 1, weight 1; on the feature before them `cirkd_pairs`, weight 1, and `cirkd_memory`, weight
    0.1 for pixels and for regions alike.

    Args:
        student: a segmenter.
        teacher: another one.
        pool: side of the windows that `cirkd_pairs` averages first. Each pixel of a batch is compared with each: above
            some thousand pixels take the 2 of the authors' code, which makes a 16th of the pairs.

    Raises:
        ValueError: the student is no segmenter.

    Paper: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022.
    """
    before = features("cirkd", student, teacher)
    pairs: Any = "cirkd_pairs" if pool == 1 else {"type": "cirkd_pairs", "pool": pool}
    return [
        {"loss": "kl", **logits("cirkd", student, teacher), "weight": 1.0},
        {"loss": pairs, **before, "weight": 1.0},
        {"loss": "cirkd_memory", **before, "weight": 0.1},
    ]
