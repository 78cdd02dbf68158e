"""Fill the cache of a teacher with what it yields for each training image, once, and open it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from densekd.cache.pipeline import PLACED, check, leaves, record, whole_image
from densekd.cache.store import SHARD, Row, Store
from densekd.cache.teacher import CachedTeacher
from densekd.sensors.normalisation import Normalisation
from kdlosses.cli.logs import peak_resident

BATCH = 8
LOOKED_AT = 256  # images without a file whose pixels are compared


class Filled(NamedTuple):
    """What it took to fill a cache, and what is on disk now.

    Attributes:
        images: how many the teacher saw now; the others were there.
        seconds: that it took.
        megabytes: on disk, of the taps of this teacher.
        peak_megabytes: the process's largest resident memory so far.
    """

    images: int
    seconds: float
    megabytes: float
    peak_megabytes: float


def use(teacher: CachedTeacher, dataset: Any, preprocessor: nn.Module, rank: int = 0, world: int = 1) -> Filled:
    """Open the cache of a teacher for a training set: what is missing is computed, what is there is not.

    Each image is seen whole and once: the transforms of the training pipeline run without those of chance. Afterwards
    the pipeline records where each augmented image lies in its whole one.

    Args:
        teacher: see `CachedTeacher`.
        dataset: of the training, or a ConcatDataset, RepeatDataset or ClassBalancedDataset of them.
        preprocessor: the student's, which pads and normalises the images.
        rank: number of this process; it computes its share of the shards.
        world: number of processes. Wait for all of them before you read.

    Raises:
        ValueError: the pipeline holds a transform that cannot be replayed; the cache is of another teacher, tap,
            pipeline or data set; a tap does not follow the size of the image.
        OSError: the disk is full; whole shards stay, and the same command goes on.
    """
    check(dataset, preprocessor)
    images = _Images(dataset, preprocessor)
    key = {**teacher.key, **images.key, "normalisation": str(Normalisation.of(_preprocessor(teacher.model)))}
    options = teacher.options
    stores = {
        tap: Store(
            Path(options.path),
            f"{teacher.name}-{tap}",
            {**key, "tap": tap},
            len(images),
            teacher.topk[tap],
            options.dtype,
        )
        for tap in teacher.strides
    }
    begin = time.perf_counter()
    mine = range(rank * SHARD, len(images), world * SHARD)  # whatever the others have written by now
    missing = {start for store in stores.values() for start in store.missing()}
    seen = 0
    for start in sorted(missing.intersection(mine)):
        asked = {tap: store for tap, store in stores.items() if start in store.missing()}
        numbers = range(start, min(start + SHARD, len(images)))
        rows = _rows(teacher, images, numbers, asked)
        for tap, store in asked.items():
            store.write(start, rows[tap])
        seen += len(numbers)
    teacher.stores = stores
    images.record()
    size = sum(store.bytes() for store in stores.values()) / 2**20
    return Filled(seen, time.perf_counter() - begin, size, peak_resident())


def _preprocessor(model: Any) -> Any:
    return getattr(model, "data_preprocessor", model)


@torch.no_grad()
def _rows(teacher: CachedTeacher, images: _Images, numbers: Iterable[int], taps: Iterable[str]) -> dict[str, list[Row]]:
    """What the teacher yields at each tap for some images; those of one size are one batch."""
    taps = list(taps)
    found: dict[str, list[Row]] = {tap: [] for tap in taps}
    samples = (images[number] for number in numbers)
    for _, alike in groupby(samples, key=lambda sample: tuple(sample["inputs"].shape)):
        group = list(alike)
        for batch in (group[i : i + BATCH] for i in range(0, len(group), BATCH)):
            places = [sample["data_samples"].metainfo[PLACED][1] for sample in batch]
            data = images.preprocessor(
                {key: [sample[key] for sample in batch] for key in ("inputs", "data_samples")}, True
            )
            size = (data["inputs"].shape[-2], data["inputs"].shape[-1])
            shown = teacher.shown(size)
            places = [place.resized(size, shown) for place in places]
            seen = teacher.online.run(data["inputs"], data["data_samples"], taps)
            for tap in taps:
                _check_sizes(teacher, tap, seen[tap], shown)
                found[tap] += [Row(place, [level[i] for level in seen[tap]]) for i, place in enumerate(places)]
    return found


def _check_sizes(teacher: CachedTeacher, tap: str, levels: Sequence[Tensor], size: tuple[int, int]) -> None:
    for level, stride in zip(levels, teacher.strides[tap]):
        due = [pixels / step for pixels, step in zip(size, stride)]
        if any(abs(found - expected) >= 1 for found, expected in zip(level.shape[-2:], due)):
            raise ValueError(
                f"teacher {teacher.name!r}: tap {tap!r} yields maps of {tuple(level.shape[-2:])} for an image of "
                f"{size}, not one position for {stride} pixels: it does not follow the image, and "
                "cannot be replayed. Tap another module, or train without teacher_cache"
            )


class _Images:
    """The training images as the teacher sees them, by their numbers in the cache."""

    def __init__(self, dataset: Any, preprocessor: nn.Module) -> None:
        self.preprocessor: Any = preprocessor
        self.leaves = list(leaves(dataset))
        self.pipelines = []
        for _, leaf in self.leaves:
            steps = copy.deepcopy(whole_image(leaf.pipeline.transforms))
            record(steps, 0)
            self.pipelines.append(steps)
        described = [" > ".join(" ".join(repr(step).split()) for step in steps) for steps in self.pipelines]
        pads = {name: getattr(preprocessor, name, None) for name in ("size", "size_divisor", "pad_size_divisor")}
        self.key = {"pipeline": described, "padding": repr(pads), "data": self._fingerprint()}

    def __len__(self) -> int:
        first, last = self.leaves[-1]
        return first + len(last)

    def __getitem__(self, number: int) -> dict[str, Any]:
        place = max(i for i, (first, _) in enumerate(self.leaves) if first <= number)
        first, leaf = self.leaves[place]
        results = leaf.get_data_info(number - first)
        for step in self.pipelines[place]:
            results = step(results)
        return results

    def record(self) -> None:
        """Let the training pipelines record what they do to the coordinates."""
        for first, leaf in self.leaves:
            record(leaf.pipeline.transforms, first)

    def _fingerprint(self) -> str:
        """A hash of the files, by name, size and time of change; of images without a file, of the pixels of some."""
        digest = sha256(str(len(self)).encode())
        drawn = []
        for first, leaf in self.leaves:
            for i in range(len(leaf)):
                path = Path(_path(leaf, i))
                if path.is_file():
                    status = path.stat()
                    told = ("/".join(path.parts[-2:]), status.st_size, status.st_mtime_ns)
                    digest.update(repr(told).encode())
                else:
                    drawn.append(first + i)
        for at in np.linspace(0, len(drawn) - 1, min(len(drawn), LOOKED_AT)).astype(int) if drawn else ():
            digest.update(np.ascontiguousarray(self[drawn[at]]["inputs"].numpy()).tobytes())
        return digest.hexdigest()[:16]


def _path(leaf: Any, index: int) -> str:
    """Where the image of a sample lies; a data set that draws its images on access does not draw this one."""
    from mmengine.dataset import BaseDataset

    listed = BaseDataset.get_data_info if isinstance(leaf, BaseDataset) else type(leaf).get_data_info
    return str(listed(leaf, index).get("img_path", ""))
