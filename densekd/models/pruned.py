"""A model of any config with smaller layers, as pruning leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from densekd.registry import MODELS
from kdlosses.rules.prune_channels import set_widths


@MODELS.register_module()
def Pruned(of: str, widths: Mapping[str, Sequence[int]], **model: Any) -> nn.Module:
    """Build a model whose layers are as small as those of a pruned one, see `kdlosses.rules.set_widths`.

    It is the model of its class, with all its fields beside, so that whatever reads such a config, mmdet's
    `init_detector` for one, finds them:

        model = dict(type="densekd.Pruned", of="GFL", widths={"backbone.conv1": [3, 20]}, backbone=..., neck=...)

    Args:
        of: its type.
        widths: by path of a layer its input and output channels, which `densekd prune` writes.
        **model: the other fields of its config.

    Raises:
        ValueError: the model has no such layer, or a smaller one.
    """
    return set_widths(MODELS.build({"type": of, **model}), widths)
