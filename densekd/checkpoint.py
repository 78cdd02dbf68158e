"""Read weights without running code that a file may carry, and say exactly what did not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from torch import Tensor, nn

IGNORED = ("distill.", "auxiliary_head.")  # connectors of an earlier distillation; heads that serve training only


def read(path: str | Path, unsafe: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: a file, the work_dir of a run for the latest one there, or an http(s) address.
        unsafe: allow a full unpickling, which runs whatever code the file contains. Only for files that you trust.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds more than tensors and plain values; nothing of it was executed.
    """
    name = str(path)
    try:
        with _known_classes():
            if name.startswith(("http://", "https://")):
                return torch.hub.load_state_dict_from_url(name, map_location="cpu", weights_only=not unsafe)
            file = Path(name).expanduser()
            file = Path(find_latest_checkpoint(name) or file / "last_checkpoint") if file.is_dir() else file
            return torch.load(file, map_location="cpu", weights_only=not unsafe)
    except UnpicklingError as error:
        asked = re.search(r"GLOBAL [\w.]+|asks for the attribute .*", str(error))
        raise ValueError(
            f"checkpoint {name} was not read: it asks for code besides weights ({asked[0] if asked else error}). "
            "If you trust its origin, allow that with unsafe=True (--unsafe-checkpoints)"
        ) from error


def load_weights(model: nn.Module, path: str | Path, unsafe: bool = False) -> Mapping[str, Any]:
    """Load a checkpoint into a model of exactly its architecture, and return what the file holds.

    Raises:
        ValueError: keys or shapes differ; the message tells how many keys matched and which did not.
    """
    checkpoint = read(path, unsafe)
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"checkpoint {path} holds a {type(checkpoint).__name__}, not weights by name")
    weights: Mapping[str, Tensor] = checkpoint.get("state_dict", checkpoint)
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    own = model.state_dict()
    shapes = {key: tuple(value.shape) for key, value in weights.items() if isinstance(value, Tensor)}
    matched = [key for key in own if shapes.get(key) == tuple(own[key].shape)]
    differing = [
        f"{key} {shapes[key]} instead of {tuple(own[key].shape)}" for key in own if key in shapes and key not in matched
    ]
    needed = [key for key in own if not key.endswith("num_batches_tracked") and not key.startswith(IGNORED)]
    missing = [key for key in needed if key not in shapes]
    unexpected = [key for key in shapes if key not in own and not key.startswith(IGNORED)]
    if differing or missing or unexpected:
        report = "; ".join(
            f"{len(keys)} {kind}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
            for kind, keys in {"of another shape": differing, "missing": missing, "unexpected": unexpected}.items()
            if keys
        )
        raise ValueError(
            f"checkpoint {path} is of another architecture than {type(model).__name__}: "
            f"{len(matched)} of {len(own)} keys matched; {report}"
        )
    model.load_state_dict({key: weights[key] for key in matched}, strict=False)
    return checkpoint


def peer_weights(path: str | Path, name: str = "teacher", unsafe: bool = False) -> dict[str, Tensor]:
    """Return the weights of a teacher that learned beside its student, from the checkpoint that holds both.

    They are those of the plain model: `torch.save({"state_dict": peer_weights(path)}, "peer.pth")` is a checkpoint for
    its own config. The student needs no such step, its weights have their plain names already.

    Args:
        path: see `read`.
        name: of the teacher.
        unsafe: see `read`.

    Raises:
        ValueError: no teacher of that name learned there; the message names those that did.
    """
    weights = read(path, unsafe)["state_dict"]
    start, held = "distill.peers.", [key.removeprefix("module.") for key in weights]
    found = dict(zip(held, weights.values()))
    peers = {key.removeprefix(start).split(".")[0] for key in held if key.startswith(start)}
    if name not in peers:
        raise ValueError(
            f"checkpoint {path} holds no teacher {name!r} that learned; it holds {', '.join(sorted(peers)) or 'none'}"
        )
    start = f"{start}{name}."
    return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}


def refuse_unsafe_checkpoints() -> None:
    """Make mmengine itself (`load_from`, `--resume`, pretrained files) read local files by `read`, for this process.

    Its own loader falls back to a full unpickling when the safe one refuses a file.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_safe, force=True)


def load_from_safe(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader for mmengine's `CheckpointLoader`; tensors arrive on the CPU and are copied into the model from there."""
    return read(filename)


def _buffer_method(owner: Any, name: str) -> Any:
    if owner is not HistoryBuffer or name not in HistoryBuffer()._statistics_methods:
        raise UnpicklingError(f"it asks for the attribute {name!r} of {owner!r}")
    return getattr(owner, name)


def _known_classes() -> AbstractContextManager[None]:
    """Besides tensors, mmengine's checkpoints hold its log curves: NumPy arrays in a `HistoryBuffer`.

    Pickle names the methods of the buffer by `getattr`, which would reach anything; `_buffer_method` stands in for it.
    """
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray  # type: ignore[attr-defined]
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_)]
    return torch.serialization.safe_globals(
        [
            HistoryBuffer,
            (_buffer_method, "builtins.getattr"),
            slice,
            np.ndarray,
            np.dtype,
            multiarray._reconstruct,
            multiarray.scalar,
            *dtypes,
        ]
    )
