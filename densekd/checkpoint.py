"""Read weights without running code in the file, and report exactly which keys did not fit."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from kdlosses import safe_pickle
from kdlosses.safe_pickle import AsksForCode, Standin, damaged, settled

IGNORED = ("distill.", "auxiliary_head.")  # connectors of an earlier distillation; heads that serve training only
ALLOW = "unsafe=True (--unsafe-checkpoints; DENSEKD_UNSAFE=1 in the environment of a tool that is not ours)"

_torch_load = torch.load
_trusting = False


def read(path: str | Path, unsafe: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: a file, the work_dir of a run for the latest one there, or an address of a scheme that mmengine knows.
        unsafe: allow a full unpickling, which runs whatever code the file contains. Only for files that you trust.

    Raises:
        FileNotFoundError: no such file.
        OSError: the address cannot be fetched.
        ValueError: the file holds more than tensors and plain values, and nothing of it was executed; or it is damaged.
    """
    name, unsafe = str(path), unsafe or _asked()
    if "://" not in name:
        return _load(_latest(name), name, unsafe)
    with _reading(name, unsafe):
        if name.startswith(("http://", "https://")):
            return torch.hub.load_state_dict_from_url(name, map_location="cpu")
        from mmengine.runner.checkpoint import CheckpointLoader

        try:
            return CheckpointLoader.load_checkpoint(name, map_location="cpu", logger=None)
        except KeyError as error:
            raise ValueError(f"checkpoint {name}: mmengine's list of models has no {error.args[0]!r}") from error


def _latest(name: str) -> Path:
    """The file itself, or the latest one in a folder."""
    file = Path(name).expanduser()
    if not file.is_dir():
        return file
    from mmengine.runner import find_latest_checkpoint

    return Path(find_latest_checkpoint(str(file)) or file / "last_checkpoint")


def _load(source: str | Path | IO[bytes], name: str, unsafe: bool) -> Any:
    """Read one file, or a download, without running its code unless that is allowed."""
    where = f"checkpoint {name}"
    if not isinstance(source, str | Path):
        return _load_open(source, where, unsafe)
    source = Path(source)
    if source != Path(name).expanduser():
        where += f" ({source})"
    if not source.is_file():
        raise FileNotFoundError(f"{where}: there is no such file")
    with source.open("rb") as file:
        try:
            return _load_open(file, where, unsafe)
        except AsksForCode:
            raise
        except ValueError as error:
            if not source.is_relative_to(torch.hub.get_dir()):
                raise
            source.unlink(missing_ok=True)
            raise ValueError(f"{error}; the cached copy is deleted, and the next call downloads it again") from error


def _load_open(file: IO[bytes], where: str, unsafe: bool) -> Any:
    intact = _check_bytes(file, where)
    try:
        if unsafe:
            return _torch_load(file, map_location="cpu", weights_only=False)
        with _known_classes():
            return settled(_torch_load(file, map_location="cpu", weights_only=True))
    except UnpicklingError as error:
        why = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        symbol = re.search(r"GLOBAL (.+?) (?:was not|whose)", str(error), re.DOTALL)
        if symbol:
            raise safe_pickle.refused(where, symbol[1], ALLOW, "weights") from error
        if intact or "it asks for the attribute" in str(error):
            raise AsksForCode(
                f"{where} was not read: it asks for code besides weights ({why[1] if why else error}), and nothing of "
                f"it was executed. If you trust its origin, allow that with {ALLOW}, which runs whatever code the file "
                "names"
            ) from error
        file.seek(0)
        safe_pickle.loads(file.read(), f"{where}, a plain pickle and not what torch.save writes,", allow="")
        raise damaged(where, why[1] if why else "torch.save did not write it") from error
    except ImportError:
        raise  # of code that was allowed
    except Exception as error:  # damaged bytes can fail in any of Python's and PyTorch's ways
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise damaged(where, f"{type(error).__name__}: {first[:200]}") from error


def _check_bytes(file: IO[bytes], where: str) -> bool:
    """Raise ValueError unless this may be what `torch.save` wrote; whether checksums prove that it is whole."""
    start = file.read(256)
    file.seek(0)
    if not start:
        raise ValueError(f"{where} is empty: fetch or write it again")
    if start.startswith(b"PK\x03\x04"):
        try:
            wrong = zipfile.ZipFile(file).testzip()
        except Exception as error:
            raise damaged(where, f"its zip archive is cut short or broken, {error}") from error
        finally:
            file.seek(0)
        if wrong:
            raise damaged(where, f"the checksum of {wrong} in it is wrong")
        return True
    if start[0] != 0x80:  # how every pickle of protocol 2 and later begins, and so the format before PyTorch 1.6
        like = "a web page" if start.lstrip()[:1] == b"<" else f"it begins with {start[:16]!r}"
        raise damaged(where, f"{like}, not what torch.save writes")
    return False


def load_weights(model: nn.Module, path: str | Path, unsafe: bool = False) -> Mapping[str, Any]:
    """Load a checkpoint into a model of exactly its architecture, and return what the file holds.

    One of a detector with its moving average, see `densekd.MeanTeacher`, gives the average's weights.

    Raises:
        ValueError: keys or shapes differ; the message says how many keys matched and which did not.
    """
    checkpoint = read(path, unsafe)
    weights = of_average(weights_in(checkpoint, path))
    own = model.state_dict()
    matched = [key for key in own if key in weights and alike(own[key], weights[key])]
    held = [key for key in own if key in weights and key not in matched]
    shaped = [key for key in held if weights[key].shape != own[key].shape]
    differing = [f"{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}" for key in shaped]
    recast = [f"{key} {_kind(weights[key])} instead of {_kind(own[key])}" for key in held if key not in shaped]
    needed = [key for key in own if not key.endswith("num_batches_tracked") and not key.startswith(IGNORED)]
    missing = [key for key in needed if key not in weights]
    unexpected = [key for key in weights if key not in own and not key.startswith(IGNORED)]
    if differing or recast or missing or unexpected:
        kinds = {"of another shape": differing, "of another type": recast, "missing": missing, "unexpected": unexpected}
        report = "; ".join(
            f"{len(keys)} {kind}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
            for kind, keys in kinds.items()
            if keys
        )
        raise ValueError(
            f"checkpoint {path} is of another architecture than {type(model).__name__}: "
            f"{len(matched)} of {len(own)} keys matched; {report}"
        )
    model.load_state_dict({key: weights[key] for key in matched}, strict=False)
    return checkpoint


def weights_in(checkpoint: Any, path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by name: a `state_dict`, or a dict with one; without the prefix of DDP.

    Raises:
        ValueError: there are none.
    """
    held = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not isinstance(held, Mapping):
        raise ValueError(f"checkpoint {path} holds a {type(held).__name__}, not weights by name")
    found = {str(key).removeprefix("module."): value for key, value in held.items() if isinstance(value, Tensor)}
    if held and not found:
        raise ValueError(
            f"checkpoint {path} holds no weights by name but {', '.join(map(repr, [*held][:5]))}; save them by "
            "torch.save({'state_dict': model.state_dict()}, ...)"
        )
    return found


def of_average(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a detector's weights from those of it and its moving average, see `densekd.MeanTeacher`: the average's.

    Others are returned as they are.

    >>> one, two = torch.zeros(1), torch.ones(1)
    >>> of_average({"student.weight": one, "teacher.weight": two, "steps": two})
    {'weight': tensor([1.])}
    """
    found = {key.removeprefix("teacher."): value for key, value in weights.items() if key.startswith("teacher.")}
    twins = ((weights.get(f"student.{key}"), value) for key, value in found.items())
    same = all(twin is not None and alike(twin, value) for twin, value in twins)
    return found if found and same else weights


def alike(own: Tensor, value: Tensor) -> bool:
    """Whether a value fits a weight without loss: equal shape and layout, and the same kind of number."""
    same = own.is_floating_point() == value.is_floating_point() and own.is_complex() == value.is_complex()
    return own.shape == value.shape and own.layout == value.layout and same


def _kind(value: Tensor) -> str:
    return f"{value.dtype}".removeprefix("torch.") + ("" if value.layout is torch.strided else ", sparse")


def peer_weights(path: str | Path, name: str = "teacher", unsafe: bool = False) -> dict[str, Tensor]:
    """Return the weights of an online teacher from its student's checkpoint.

    They are those of the plain model: `torch.save({"state_dict": peer_weights(path)}, "peer.pth")` is a checkpoint for
    its own config. The student needs no such step: its weights have their plain names already.

    Args:
        path: see `read`.
        name: of the teacher.
        unsafe: see `read`.

    Raises:
        ValueError: the checkpoint holds no online teacher of that name; the message lists those that it holds.
    """
    found = weights_in(read(path, unsafe), path)
    start = "distill.peers."
    peers = {key.removeprefix(start).split(".")[0] for key in found if key.startswith(start)}
    if name not in peers:
        raise ValueError(
            f"checkpoint {path} holds no online teacher {name!r}; it holds {', '.join(sorted(peers)) or 'none'}"
        )
    start = f"{start}{name}."
    return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}


def refuse_unsafe_checkpoints(refuse: bool = True) -> None:
    """Set for this process whether mmengine may run code in files: `load_from`, `--resume`, pretrained weights.

    By default it may not, once `densekd` is imported, whatever the scheme (a path, http://, torchvision://, s3://,
    ...); its own loader would fall back to a full unpickling where the safe one refuses a file. The same holds for
    pickles that data sets read through mmengine, such as the info files of mmdet3d.

    Args:
        refuse: False to allow it. Only for files that you trust.
    """
    global _trusting
    _trusting = not refuse
    from mmengine.runner.checkpoint import CheckpointLoader

    guard_loader(CheckpointLoader)


def trusting() -> bool:
    """Whether mmengine may run the code in files."""
    return _trusting or _asked()


def _asked() -> bool:
    return os.environ.get("DENSEKD_UNSAFE") == "1"


def guard_loader(loader: Any) -> None:
    """Make every scheme of mmengine's `CheckpointLoader`, also one registered later, use `read`."""
    plain = loader.load_checkpoint.__func__
    if hasattr(plain, "plain"):
        return

    def load_checkpoint(cls: Any, filename: str, map_location: Any = None, logger: Any = "current") -> Any:
        """Read a checkpoint onto the CPU; mmengine copies it into the model."""
        name = str(filename)
        with _reading(name, trusting()):
            return plain(cls, name if "://" in name else str(_latest(name)), map_location, logger)

    load_checkpoint.plain = plain  # type: ignore[attr-defined]
    loader.load_checkpoint = classmethod(load_checkpoint)


@contextlib.contextmanager
def _reading(name: str, unsafe: bool) -> Iterator[None]:
    """Replace `torch.load` by `_load` for the loaders of mmengine and of torch.hub."""
    outer = torch.load

    def load(source: Any, *args: Any, **kwargs: Any) -> Any:
        return _load(source, name, unsafe)

    torch.load = load  # type: ignore[assignment]
    try:
        yield
    except URLError as error:
        raise OSError(f"checkpoint {name} was not downloaded ({error}): check the address and the network") from error
    finally:
        torch.load = outer


class _Curve(Standin):
    """mmengine's `HistoryBuffer`, a log curve; what the file says of the class's table of methods is left out."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def real(self) -> Any:
        from mmengine.logging import HistoryBuffer

        buffer = HistoryBuffer()
        for name in ("_log_history", "_count_history", "max_length"):
            setattr(buffer, name, settled(self.state[name]))
        return buffer


class _Method(Standin):
    """`getattr(HistoryBuffer, name)`: how a pickle names its methods; `getattr` itself would reach anything."""

    def __new__(cls, owner: Any, name: Any) -> Any:
        if owner is not _Curve or name not in _METHODS:
            raise UnpicklingError(f"it asks for the attribute {name!r} of {getattr(owner, '__name__', owner)}")
        return name


_METHODS = frozenset({"min", "max", "current", "mean"})


@contextlib.contextmanager
def _known_classes() -> Iterator[None]:
    """Besides tensors, mmengine's checkpoints hold its log curves: NumPy arrays in a `HistoryBuffer`."""
    known = {
        **safe_pickle.ARRAYS,
        "mmengine.logging.history_buffer.HistoryBuffer": _Curve,
        "builtins.getattr": _Method,
        "builtins.slice": slice,
    }
    allowed = torch.serialization.get_safe_globals()  # by the user, and by mmengine around its own call
    names = [each[1] if isinstance(each, tuple) else f"{each.__module__}.{each.__qualname__}" for each in allowed]
    others = [each for each, name in zip(allowed, names) if name not in known]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*others, *((kind, name) for name, kind in known.items())])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)
