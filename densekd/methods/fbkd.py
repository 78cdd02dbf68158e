"""Feature-based distillation of the neck: where student and teacher attend, and relations of positions (detection)."""

from typing import Any

from torch import nn

from densekd.methods.levels import levels
from densekd.methods.registry import method


@method()
def fbkd(student: nn.Module, teacher: nn.Module, tau: float = 0.5, weight: float = 1.0) -> list[dict[str, Any]]:
    """Match features where both attend, their means, and how positions relate, with parts of its own for each level.

    Of two-stage detectors without the last level, which is pooled from the one before. Windows of 8, 4 and 2 positions
    are pooled in levels of stride 4, 8 and beyond before positions are related.

    Args:
        student: a detector or a segmenter.
        teacher: another one.
        tau: temperature of the attention.
        weight: of all entries.

    Paper: Zhang and Ma, "Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and
    Efficient Detectors", ICLR 2021.
    """
    entries = levels(student, teacher, "fbkd")
    two_stage = hasattr(student, "roi_head")
    if two_stage and len(entries) > 1:
        entries = entries[:-1]
    first = 8 if two_stage else 4  # the side of windows at the first level, of stride 4 or 8
    return [
        {**entry, "loss": {"type": "fbkd", "tau": tau, "pool": max(2, first // 2**i)}, "weight": weight}
        for i, entry in enumerate(entries)
    ]
