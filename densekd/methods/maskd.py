"""Masked distillation of the feature before the logits (segmentation) or of the neck (detection)."""

from typing import Any

from torch import nn

from densekd.methods.levels import levels
from densekd.methods.registry import method


@method()
def maskd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match features within the masks of six learned tokens, with separate tokens for each level; weight 1.

    The tokens are learned with the student, which is our own form; `dict(type='maskd', learned=...)` in entries takes
    those that `densekd tokens` learned before, as published.

    Paper: Huang et al., "Masked Distillation with Receptive Tokens", ICLR 2023.
    """
    return [{**entry, "loss": "maskd", "weight": 1.0} for entry in levels(student, teacher, "maskd")]
