"""Consecutive arrays on disk, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Shards:
    """Several arrays concatenated along the rows; only the selected rows are read.

    It has the shape, the type and the row indexing of the array that it stands for. A slice of the columns is again
    `Shards`, everything else an array in memory.

    Args:
        parts: arrays `(n, *)` alike in all but their lengths, in memory or memory-mapped.

    Raises:
        ValueError: there are none, or they are not alike.

    >>> both = Shards([np.array([[0, 1], [2, 3]]), np.array([[4, 5]])])
    >>> both.shape, both[1:3].tolist(), both[[2, 0]].tolist(), both[:, 1:].shape
    ((3, 2), [[2, 3], [4, 5]], [[4, 5], [0, 1]], (3, 1))
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        kinds = {(part.dtype, part.shape[1:]) for part in parts}
        if len(kinds) != 1:
            shapes = sorted(f"{dtype} ({', '.join(map(str, ('n', *rest)))})" for dtype, rest in kinds)
            found = ", ".join(shapes) or "none"
            raise ValueError(f"shards may differ in length only, got {found}")
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in parts])
        ((self.dtype, rest),) = kinds
        self.shape = (int(self.ends[-1]), *rest)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):
            rows, *columns = index
            of_all = (slice(None), *columns)
            narrow = Shards([part[of_all] for part in self.parts])
            return narrow if isinstance(rows, slice) and rows == slice(None) else narrow[rows]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                begins = self.ends - [len(part) for part in self.parts]
                ranges = [(max(start - begin, 0), max(stop - begin, 0)) for begin in begins.tolist()]
                return np.concatenate([part[a:b] for part, (a, b) in zip(self.parts, ranges)])
            index = np.arange(start, stop, step)
        asked = np.asarray(index)
        if asked.dtype == np.bool_:
            asked = asked.nonzero()[0]
        wrong = asked[(asked < 0) | (asked >= len(self))]
        if wrong.size:
            raise IndexError(f"row {wrong.flat[0]} is out of range: there are the rows 0 to {len(self) - 1}")
        owner = np.searchsorted(self.ends, asked, side="right")
        taken = np.empty((*asked.shape, *self.shape[1:]), self.dtype)
        for place in np.unique(owner):
            part, mine = self.parts[place], owner == place
            taken[mine] = part[asked[mine] - (self.ends[place] - len(part))]
        return taken

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)
