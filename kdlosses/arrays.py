"""Arrays on disk as plain `.npy` files: written without pickle, read memory-mapped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file, without pickle.

    Raises:
        OSError: the disk is full.
    """
    with path.open("wb") as file:
        # given the file itself, NumPy hides that the disk is full where an array is small
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def open_array(path: Path) -> np.ndarray:
    """Map a `.npy` file into memory, without pickle.

    Raises:
        ValueError: it is missing, damaged, lies outside of its folder or holds objects; no memory is taken for what its
            header claims.
    """
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError(f"{path} leads out of its folder and was not opened: put the file itself there")
    if not path.is_file():
        raise ValueError(f"{path} is missing: write the cache again")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        if array.nbytes and array.offset + array.nbytes != path.stat().st_size:
            raise ValueError(f"its header claims {array.dtype} of shape {array.shape}, the file has another size")
        if not array.dtype.isnative:
            raise ValueError(f"its numbers are of type {array.dtype.str}, in another byte order")
        return array
    except Exception as error:  # a damaged header can fail in any of Python's and NumPy's ways
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is no plain array and was not opened ({why}): damaged, or of objects; write the cache again"
        ) from error
