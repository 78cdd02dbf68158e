"""One tap of one teacher on disk: shards of plain arrays, each written whole or not at all, read memory-mapped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from densekd.cache.geometry import Place
from kdlosses.arrays import open_array, write_array
from kdlosses.whole import whole

FORMAT = 1
SHARD = 64  # images of a shard: what a killed run computes again at most
LIMIT = float(np.finfo(np.float16).max)


class Row(NamedTuple):
    """What is known of one image: where the teacher saw it, and the map of each level `(C, h, w)`."""

    place: Place
    levels: list[Tensor]


class Store:
    """The outputs of one tap of a teacher for each image of a training set, in a folder.

    The folder holds a `meta.json`, which says of what it is, and a folder `shard-<first image>` for each 64 images: the
    maps of all images one after the other in `level<i>.npy`, their shapes in `shapes<i>.npy` `(n, 3)`, and in
    `places.npy` `(n, 4)` where the teacher saw the images. With `topk`, `level<i>.npy` holds the k largest logits of
    each position and the logit that stands for each of the others, `classes<i>.npy` which classes they are of.

    Args:
        folder: of all taps of all teachers.
        name: of teacher and tap, for the name of the folder.
        key: what the outputs depend on: JSON values.
        images: how many there are.
        topk: number of logits kept at each position; 0 for all.
        dtype: 'float16' or 'float32'.

    Raises:
        ValueError: the folder is of something else; the message says what differs.
    """

    def __init__(
        self, folder: Path, name: str, key: Mapping[str, Any], images: int, topk: int = 0, dtype: str = "float16"
    ) -> None:
        mark = sha256(name.encode()).hexdigest()[:6]  # two taps may differ in what no name of a file may hold
        self.folder = Path(folder) / f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', name)}-{mark}"
        self.key = {**key, "topk": topk, "dtype": dtype}
        self.images, self.topk, self.dtype = images, topk, dtype
        self._open: dict[int, dict[str, np.ndarray]] = {}
        self._check()

    def _check(self) -> None:
        file = self.folder / "meta.json"
        if not file.is_file():
            held = self.folder.iterdir() if self.folder.exists() else ()
            if any(not each.name.startswith(".") for each in held):  # another process may be writing its draft
                raise ValueError(f"{self.folder} is no teacher cache: it has no meta.json. Give another folder")
            return
        try:
            meta = json.loads(file.read_text(encoding="utf-8"))
            found, known = meta["key"], meta["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{file} is damaged ({error}): delete {self.folder}") from error
        if known != FORMAT or not isinstance(found, dict):
            raise ValueError(f"{self.folder} has cache format {known!r}; this version reads {FORMAT}")
        unlike = [key for key in sorted({*found, *self.key}) if found.get(key) != self.key.get(key)]
        if unlike:
            told = "; ".join(f"{key} {found.get(key)!r} there, {self.key.get(key)!r} here" for key in unlike)
            raise ValueError(
                f"the teacher cache {self.folder} is of something else and was not used: {told}. Give another folder, "
                "or delete this one"
            )

    def starts(self) -> list[int]:
        """First image of each shard."""
        return list(range(0, self.images, SHARD))

    def missing(self) -> list[int]:
        """First image of each shard that is not written yet."""
        return [start for start in self.starts() if not (self._shard(start) / "meta.json").is_file()]

    def _shard(self, start: int) -> Path:
        return self.folder / f"shard-{start:09d}"

    def write(self, start: int, rows: Sequence[Row]) -> None:
        """Write the shard that begins with the image `start`; one that another process has written meanwhile stays.

        Raises:
            ValueError: a value is too large for float16.
            FloatingPointError: one is not finite.
        """
        packed = [[self._packed(row.levels[level]) for row in rows] for level in range(len(rows[0].levels))]
        if not (self.folder / "meta.json").is_file():
            with whole(self.folder / "meta.json") as draft:
                draft.write_text(json.dumps({"format": FORMAT, "key": self.key, "images": self.images}, indent=1))
        written = self._shard(start) / "meta.json"
        try:
            with whole(self._shard(start), folder=True) as draft:
                write_array(draft / "places.npy", np.array([row.place for row in rows], np.float64))
                for level, maps in enumerate(packed):
                    write_array(draft / f"level{level}.npy", np.concatenate([values for values, _, _ in maps]))
                    write_array(draft / f"shapes{level}.npy", np.array([shape for _, _, shape in maps], np.int64))
                    if self.topk:
                        write_array(draft / f"classes{level}.npy", np.concatenate([classes for _, classes, _ in maps]))
                (draft / "meta.json").write_text(json.dumps({"start": start, "levels": len(packed)}))
                if written.is_file():
                    raise FileExistsError(f"{written} was written by another process")
        except OSError:
            if not written.is_file():  # else another process was faster, and wrote the same
                raise

    def _packed(self, maps: Tensor) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        maps = maps.detach().float().cpu()
        if not torch.isfinite(maps).all():
            raise FloatingPointError(f"the teacher yields NaN or infinity for a training image, at {self.folder.name}")
        if self.dtype == "float16" and maps.abs().max() > LIMIT:
            raise ValueError(
                f"the teacher's outputs reach {maps.abs().max():.3g}, which {self.dtype} cannot hold: "
                "teacher_cache=dict(path=..., dtype='float32') keeps them"
            )
        values, classes = (maps, torch.empty(0)) if not self.topk else largest(maps, self.topk)
        kind = np.uint8 if len(maps) <= 256 else np.uint16
        return values.numpy().astype(self.dtype).ravel(), classes.numpy().astype(kind).ravel(), tuple(maps.shape)

    def read(self, image: int) -> Row:
        """Read the outputs for one image, in memory as float32.

        Raises:
            ValueError: the shard is missing or damaged.
        """
        start = image // SHARD * SHARD
        arrays = self._open.get(start) or self._opened(start)
        place, at = Place(*arrays["places"][image - start].tolist()), image - start
        levels = []
        for level in range(int(arrays["levels"])):
            shape = tuple(arrays[f"shapes{level}"][at].tolist())
            channels, points = shape[0], shape[1] * shape[2]
            kept = self.topk + 1 if self.topk else channels
            end = arrays[f"ends{level}"][at]
            values = arrays[f"level{level}"][(end - points) * kept : end * kept].astype(np.float32)
            maps = torch.from_numpy(values).view(kept, *shape[1:])
            if self.topk:
                mine = arrays[f"classes{level}"][(end - points) * self.topk : end * self.topk].astype(np.int64)
                maps = spread(maps, torch.from_numpy(mine).view(self.topk, *shape[1:]), channels)
            levels.append(maps)
        return Row(place, levels)

    def open(self) -> None:
        """Map all shards.

        Raises:
            ValueError: one is missing or damaged; the message names it.
        """
        for start in self.starts():
            if start not in self._open:
                self._opened(start)

    def _opened(self, start: int) -> dict[str, np.ndarray]:
        shard = self._shard(start)
        try:
            self._open[start] = self._arrays(shard)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{shard} is missing or damaged ({error}): delete it, the next run writes it") from error
        return self._open[start]

    def _arrays(self, shard: Path) -> dict[str, np.ndarray]:
        levels = json.loads((shard / "meta.json").read_text())["levels"]
        arrays: dict[str, np.ndarray] = {
            "levels": np.array(levels),
            "places": np.array(open_array(shard / "places.npy")),
        }
        for level in range(levels):
            shapes = arrays[f"shapes{level}"] = np.array(open_array(shard / f"shapes{level}.npy"))
            arrays[f"ends{level}"] = np.cumsum(shapes[:, 1] * shapes[:, 2])
            for name in ("level", "classes") if self.topk else ("level",):
                array = arrays[f"{name}{level}"] = _mapped(shard / f"{name}{level}.npy")
                each = {"level": self.topk + 1, "classes": self.topk}[name] if self.topk else shapes[:, 0]
                if len(array) != (shapes[:, 1] * shapes[:, 2] * each).sum():
                    raise ValueError(f"{name}{level}.npy has {len(array)} values")
        return arrays

    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def _mapped(path: Path) -> np.ndarray:
    """Map an array of one axis into memory, and close its file: NumPy would hold one open for each of all shards.

    Raises:
        ValueError: see `open_array`.
    """
    array = open_array(path)
    if not isinstance(array, np.memmap) or not array.size:
        return array
    file = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).numpy()
    mapped: np.ndarray = file[array.offset :].view(array.dtype)
    return mapped


def largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The k largest logits of each position, and the one that stands for each of the others.

    The others are $\log \frac{1}{C - k} \sum_{c} e^{z_c}$, so that the softmax gives the k classes what it gave them,
    and the rest in equal shares.

    Args:
        logits: `(C, h, w)`.
        k: less than C.

    Returns:
        `(k + 1, h, w)` values, and `(k, h, w)` classes.

    >>> values, classes = largest(torch.tensor([4.0, 1.0, 3.0, 1.0]).view(4, 1, 1), k=2)
    >>> values.flatten().tolist(), classes.flatten().tolist()
    ([4.0, 3.0, 1.0], [0, 2])
    """
    ordered, classes = logits.sort(dim=0, descending=True)
    rest = ordered[k:].logsumexp(0, keepdim=True) - np.log(len(logits) - k)
    return torch.cat([ordered[:k], rest]), classes[:k]


def spread(values: Tensor, classes: Tensor, channels: int) -> Tensor:
    """Logits `(C, h, w)` of what `largest` returned.

    >>> spread(torch.tensor([4.0, 3.0, 1.0]).view(3, 1, 1), torch.tensor([0, 2]).view(2, 1, 1), 4).flatten().tolist()
    [4.0, 1.0, 3.0, 1.0]
    """
    maps = values[-1:].expand(channels, *values.shape[1:]).clone()
    return maps.scatter_(0, classes, values[:-1])
