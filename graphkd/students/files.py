"""Students on disk: parameters as safetensors, the rest as JSON in the header. Nothing is ever executed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdlosses.whole import whole

_SUM = "crc32"
_HEADER = 100_000_000  # bytes, the most that safetensors allows


def write(path: str | Path, network: nn.Module, key: str, meta: dict[str, Any]) -> None:
    """Write the parameters of a network, and `meta` under `key` in the header; the file is replaced whole.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    write_tensors(path, network.state_dict(), key, meta)


def write_tensors(path: str | Path, state: dict[str, Tensor], key: str, meta: dict[str, Any]) -> None:
    """Write tensors by name as `write` does the parameters of a network."""
    text = json.dumps(meta)
    with whole(path) as draft:
        save_file(state, draft, metadata={key: text, _SUM: _checksum(text, state)})


def read(path: str | Path, key: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the parameters and the `meta` that `write` wrote under `key`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file holds no `what`, or is damaged.
    """
    with Path(path).open("rb") as raw:
        claimed = int.from_bytes(raw.read(8), "little")
        held = raw.seek(0, 2)
    if held < 8 or claimed > min(held - 8, _HEADER):
        raise damaged(path, what, f"its header claims {claimed} bytes, the file has {held}")
    try:
        with safe_open(path, "pt") as file:
            head = file.metadata() or {}
            header = head.get(key)
            if header is None:
                raise ValueError(f"{path} holds no {what}: its header has no {key!r} entry; save the {what} there")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise damaged(path, what, error) from error
    if _SUM in head and head[_SUM] != _checksum(header, state):  # older files have none
        raise damaged(path, what, "its checksum is wrong")
    try:
        meta = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise damaged(path, what, f"the entry {key!r} of its header is no JSON") from error
    if not isinstance(meta, dict):
        raise damaged(path, what, f"the entry {key!r} of its header is a {type(meta).__name__}")
    return state, meta


def _checksum(text: str, state: dict[str, Tensor]) -> str:
    found = zlib.crc32(text.encode())
    for name in sorted(state):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


@contextmanager
def rebuilding(path: str | Path, what: str) -> Iterator[None]:
    """Raise any error inside, where a `what` is built from a file, as the error of a damaged file."""
    try:
        yield
    except Exception as error:
        raise damaged(path, what, f"{type(error).__name__}: {error}") from error


def damaged(path: str | Path, what: str, why: object) -> ValueError:
    """Return the error for a damaged file."""
    return ValueError(f"{path} holds no whole {what} ({why}): save the {what} again, or fetch the file again")
