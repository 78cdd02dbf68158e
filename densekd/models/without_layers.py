"""A model of any config without some of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from densekd.checkpoint import load_weights
from densekd.registry import MODELS
from kdlosses.rules.prune_layers import without_layers


@MODELS.register_module()
def WithoutLayers(
    of: Mapping[str, Any], layers: Sequence[str], weights: str | Path | None = None, data_preprocessor: Any = None
) -> nn.Module:
    """Build a model and leave layers out, which `kdlosses.rules.prune_layers` has chosen.

    It is the model of `of`, with the names of its class, to be trained, tested and exported by this config:

        model = dict(type="densekd.WithoutLayers", of=<model>, layers=["backbone.layer4.1"], weights="teacher.pth")

    Args:
        of: config of the model.
        layers: paths of blocks that keep the shape of their input.
        weights: of the whole model, with which the rest begins.
        data_preprocessor: as mmengine hands it to any model.

    Raises:
        KeyError: there is no such layer; names the nearest.
        ValueError: none is given, one twice or within another, one that changes the shape of its input, or weights of
            another model.

    Paper: Zhang et al., "LAPTOP-Diff: Layer Pruning and Normalized Distillation for Compressing Diffusion Models",
    2024.
    """
    config = dict(of) if data_preprocessor is None else {"data_preprocessor": data_preprocessor, **of}
    model = MODELS.build(config)
    if weights is not None:
        load_weights(model, weights)
        model.is_init = True  # else the runner would initialise it anew
    return without_layers(model, layers)
