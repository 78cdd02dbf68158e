"""Scenes from files and by name."""

from __future__ import annotations

import inspect
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.scenes.scenes import ARRAYS, NAMES, Scenes, check_scenes
from graphkd.scenes.worlds import passes
from kdlosses.options import check_known, nearest
from kdlosses.whole import whole


def read(path: str | Path, *, human: int = 0, lonely: str = "raise") -> Scenes:
    """Read an `.npz` of plain arrays, without pickle, as NumPy's `savez` writes it.

    Args:
        path: the file. Its arrays are those of `Scenes.of`; names of classes are arrays of strings.
        human: which class is a human's.
        lonely: what to do about frames with one entity, `raise` or `keep`.

    Raises:
        FileNotFoundError: no such file.
        KeyError: an array is missing.
        TypeError: an array has another name, or holds no numbers.
        ValueError: the file is none of plain arrays, or what is in it does not fit; see `Scenes.of`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz: write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            check_known(str(path), file.files, (*ARRAYS, *NAMES))
            found = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError) as error:  # damaged
        why = "it holds objects" if "pickle" in str(error).lower() else str(error) or type(error).__name__
        raise ValueError(
            f"{path} is no file of plain arrays and was not opened ({why}): write numbers and strings with numpy.savez"
        ) from error
    return Scenes.of(found, human, lonely)


def write(path: str | Path, scenes: Scenes) -> None:
    """Write scenes to an `.npz` that `read` reads; which class is a human's, and `lonely`, are said there again.

    Raises:
        ValueError: the file is of another kind.
        OSError: it cannot be written; a file that was there is as it was.
    """
    check_scenes(scenes)
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: scenes are written to a file .npz")
    with whole(path) as draft:
        held: dict[str, Any] = scenes.arrays()
        np.savez(draft, **held)


def load(spec: str | Mapping[str, Any], seed: int = 0) -> Scenes:
    """Load scenes by name.

    Args:
        spec: `passes`, a world that is drawn, or `file`, see `read`, with options as `dict(type=name, **options)`.
        seed: of what is drawn.

    Raises:
        KeyError: no such name.
        TypeError: no such option.

    >>> load(dict(type="passes", videos=20, frames=6))
    <Scenes: 20 videos, 120 frames, 480 entities of 5 classes, 4 actions, 1078 relations of 8 predicates>
    """
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    kind = options.pop("type", None)
    readers: dict[Any, Callable[..., Scenes]] = {"passes": passes, "file": read}
    if kind not in readers:
        raise KeyError(f"no scenes are called {kind!r}; {nearest(str(kind), readers)}")
    known = [name for name in inspect.signature(readers[kind]).parameters if name != "seed"]
    check_known(f"data {kind!r}", options, known)
    if kind == "file" and "path" not in options:
        raise TypeError("data 'file' needs the option path, an .npz file")
    return readers[kind](**options, **({} if kind == "file" else {"seed": seed}))
