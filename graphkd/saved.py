"""Students on disk: parameters as safetensors, the rest as JSON in its header. Nothing in there is ever executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def write(path: str | Path, network: nn.Module, key: str, meta: dict[str, Any]) -> None:
    """Write the parameters of a network, and `meta` under `key` in the header."""
    save_file(network.state_dict(), path, metadata={key: json.dumps(meta)})


def read(path: str | Path, key: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the parameters and the `meta` that `write` wrote under `key`.

    Raises:
        ValueError: the file holds no `what`.
    """
    with safe_open(path, "pt") as file:
        header = (file.metadata() or {}).get(key)
        if header is None:
            raise ValueError(f"{path} holds no {what}: its header has no {key!r} entry")
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(header)  # noqa: SIM118 - no mapping
