"""Students on disk: parameters as safetensors, the rest as JSON in its header. Nothing in there is ever executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from graphkd.whole import whole

_HEADER = 100_000_000  # bytes, the most that safetensors allows


def write(path: str | Path, network: nn.Module, key: str, meta: dict[str, Any]) -> None:
    """Write the parameters of a network, and `meta` under `key` in the header; the file is replaced whole.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    header = {key: json.dumps(meta)}
    with whole(path) as draft:
        save_file(network.state_dict(), draft, metadata=header)


def read(path: str | Path, key: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the parameters and the `meta` that `write` wrote under `key`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file holds no `what`, or is damaged.
    """
    with Path(path).open("rb") as head:
        claimed = int.from_bytes(head.read(8), "little")
        held = head.seek(0, 2)
    if held < 8 or claimed > min(held - 8, _HEADER):
        raise damaged(path, what, f"its header claims {claimed} bytes, the file has {held}")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(key)
            if header is None:
                raise ValueError(f"{path} holds no {what}: its header has no {key!r} entry")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise damaged(path, what, error) from error
    try:
        meta = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise damaged(path, what, f"the entry {key!r} of its header is no JSON") from error
    if not isinstance(meta, dict):
        raise damaged(path, what, f"the entry {key!r} of its header is a {type(meta).__name__}")
    return state, meta


@contextmanager
def rebuilding(path: str | Path, what: str) -> Iterator[None]:
    """Whatever goes wrong inside, where a `what` is made from the contents of a file, is the file's fault."""
    try:
        yield
    except Exception as error:
        raise damaged(path, what, f"{type(error).__name__}: {error}") from error


def damaged(path: str | Path, what: str, why: object) -> ValueError:
    """The error of a file that does not hold what was written."""
    return ValueError(f"{path} holds no whole {what} ({why}): save the {what} again, or fetch the file again")
