"""The files that a pre-trained backbone is left in: for OpenMMLab, for others by name, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdlosses.whole import whole

MMENGINE, PLAIN, SIDECAR = "backbone.pth", "backbone.safetensors", "backbone.json"


def write_backbone(out: str | Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
    """Write a backbone to a folder, each file whole.

    - `backbone.pth`, with the names that a model of OpenMMLab has, `backbone.<name>`: for `load_from`, or
      `init_cfg=dict(type='Pretrained', checkpoint='.../backbone.pth', prefix='backbone.')` of the backbone itself.
    - `backbone.safetensors`, with the backbone's own names: for `load_state_dict`, and for timm's `checkpoint_path`.
    - `backbone.json`, what is known of it.

    Args:
        out: the folder.
        network: the backbone.
        facts: what the sidecar says, as JSON takes it.

    Raises:
        OSError: a file cannot be written; what was there is as it was.
    """
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    out = Path(out)
    with whole(out / MMENGINE) as draft:
        torch.save({"state_dict": {f"backbone.{name}": value for name, value in weights.items()}, "meta": {}}, draft)
    with whole(out / PLAIN) as draft:
        save_file(weights, draft, metadata={"format": "pt"})
    with whole(out / SIDECAR) as draft:
        draft.write_text(json.dumps({"schema": 1, **facts}, indent=1) + "\n", encoding="utf-8")
