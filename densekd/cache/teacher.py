"""A frozen teacher whose outputs are read from a cache in place of a forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from densekd.cache.geometry import replay
from densekd.cache.pipeline import PLACED
from densekd.cache.store import Row, Store
from densekd.hub.features import Features
from densekd.sensors.batches import has_sensors, reads_truth
from densekd.taps.defaults import default_taps, sigmoid_logits
from densekd.teacher import Teacher
from kdlosses.options import check_known

Size = tuple[int, int]


class CacheOptions(NamedTuple):
    """What `teacher_cache` may say.

    Attributes:
        path: folder of the cache; several methods, seeds and teachers may share it.
        topk: number of class logits kept at each position; 0 for all. The others share what is left of the softmax.
        dtype: 'float16' or 'float32'.
    """

    path: str
    topk: int = 0
    dtype: str = "float16"

    @classmethod
    def parse(cls, given: Any) -> CacheOptions:
        """Read a path, or a dict with a `path`.

        Raises:
            TypeError, ValueError: something else, or an unknown option.

        >>> CacheOptions.parse(dict(path="cache", topk=5))
        CacheOptions(path='cache', topk=5, dtype='float16')
        """
        if isinstance(given, str | Path):
            given = {"path": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("path"), str | Path) or not str(given["path"]):
            raise TypeError(f"teacher_cache must be a folder, or dict(path=..., topk=..., dtype=...), got {given!r}")
        check_known("teacher_cache", given, cls._fields)
        found = cls(**{**given, "path": str(Path(given["path"]).expanduser())})
        if isinstance(found.topk, bool) or not isinstance(found.topk, int) or found.topk < 0:
            raise ValueError(f"teacher_cache: topk must be an integer, 0 or more, got {found.topk!r}")
        if found.dtype not in ("float16", "float32"):
            raise ValueError(f"teacher_cache: dtype must be 'float16' or 'float32', got {found.dtype!r}")
        return found


class CachedTeacher(Teacher):
    """A frozen teacher that saw each image once, whole and without random colours; its outputs are read from disk.

    In training they are cropped, flipped and resized as the student's image was, see `densekd.cache.geometry.replay`.
    Without a random crop, flip or resize they are what the teacher yields online, rounded to float16. With them they
    differ from it: at the borders of a crop, where online the teacher sees padding and here the rest of the image; by
    the interpolation; and where a teacher is not equivariant to a flip. `densekd.cache.fill.use` opens the cache.

    Args:
        teacher: the frozen teacher.
        probed: for each tap what it yields for a blank image.
        size: height and width of that image.
        options: see `CacheOptions`.
        logits: those of the taps that yield class logits, of which `topk` keeps the largest.

    Raises:
        ValueError: a tap yields no map, or `topk` keeps all classes.
    """

    def __init__(
        self,
        teacher: Teacher,
        probed: Mapping[str, Sequence[Tensor]],
        size: Size,
        options: CacheOptions,
        logits: Iterable[str] = (),
    ) -> None:
        self.name, self.model, self.online = teacher.name, teacher.model, teacher
        self.options = options
        self.strides: dict[str, list[tuple[float, float]]] = {}
        self.topk = dict.fromkeys(probed, 0)
        for tap, levels in probed.items():
            shapes = [tuple(level.shape) for level in levels]
            if any(len(shape) != 4 for shape in shapes):
                raise ValueError(
                    f"teacher {self.name!r}: tap {tap!r} yields {', '.join(map(str, shapes))}, but a cache replays "
                    "maps (B, C, h, w) alone: tap maps, or train without teacher_cache"
                )
            seen = self.shown(size)
            self.strides[tap] = [(seen[0] / shape[2], seen[1] / shape[3]) for shape in shapes]
        if options.topk and not set(logits) & {*probed}:
            raise ValueError(f"teacher_cache: topk keeps class logits, but teacher {self.name!r} has no tap of logits")
        for tap in set(logits) & {*probed} if options.topk else ():
            classes = min(level.shape[1] for level in probed[tap])
            if options.topk >= classes:
                raise ValueError(
                    f"teacher_cache: topk={options.topk} must be less than the {classes} classes of {tap!r}"
                )
            self.topk[tap] = options.topk
        self.key = {"weights": weights_hash(self.model), "network": sha256(repr(self.model).encode()).hexdigest()[:12]}
        if isinstance(self.model, Features) and self.shown((1, 1)) != (1, 1):
            self.key["positions"] = "of the image that the teacher resized"
        self.stores: dict[str, Store] | None = None

    def shown(self, size: Size) -> Size:
        """Return the size to which the teacher itself resizes an image of `size`, see `densekd.hub.features`."""
        return self.model.shown(size) if isinstance(self.model, Features) else size

    def _positions(self, pixels: int, stride: float) -> int:
        padded = isinstance(self.model, Features) and self.model.square  # whose maps are cut where the padding begins
        return max(1, round(pixels / stride)) if padded else positions(pixels, stride)

    def configure(self, student: nn.Module, yields: Mapping[str, int]) -> None:
        """Configure the teacher itself, which fills the cache."""
        self.online.configure(student, yields)

    def move(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> None:
        """Leave the teacher where it is once its cache is open: it has no more to do."""
        if self.stores is None:
            super().move(fn, recurse)

    def run(self, inputs: Any, samples: Any, specs: Iterable[str]) -> dict[str, list[Tensor]]:
        """Read what the taps `specs` yield for the student's preprocessed batch.

        Raises:
            ValueError: the cache is not open, or a sample does not say where it lies in its image.
        """
        if self.stores is None:
            raise ValueError(
                f"the cache of teacher {self.name!r} is not open: train by `densekd train`, or add "
                "custom_hooks=[dict(type='densekd.TeacherCache')] to the config"
            )
        for sample in samples:
            if PLACED not in sample.metainfo:
                raise ValueError(
                    f"teacher {self.name!r} reads a cache of the training images, but this batch comes from elsewhere"
                )
        placed = [sample.metainfo[PLACED] for sample in samples]
        return {spec: self._replayed(spec, inputs, placed) for spec in specs}

    def _replayed(self, spec: str, inputs: Tensor, placed: Sequence[tuple[int, Any]]) -> list[Tensor]:
        assert self.stores is not None
        rows: list[Row] = [self.stores[spec].read(number) for number, _ in placed]
        found = []
        given = (inputs.shape[-2], inputs.shape[-1])
        shown = self.shown(given)
        for level, stride in enumerate(self.strides[spec]):
            size = self._positions(shown[0], stride[0]), self._positions(shown[1], stride[1])
            maps = [
                replay(row.levels[level].to(inputs.device), row.place, place.resized(given, shown), stride, size)
                for row, (_, place) in zip(rows, placed)
            ]
            found.append(torch.stack(maps))
        return found


def cached(
    teachers: Mapping[str, Teacher], probed: Mapping[str, Mapping[str, Sequence[Tensor]]], size: Size, given: Any
) -> dict[str, Teacher]:
    """Return the teachers, with a `CachedTeacher` in place of each that is frozen.

    Those that learn, and the student's moving average, change from step to step and run as they did.

    Args:
        teachers: by name.
        probed: for each what its taps yield for a blank image.
        size: height and width of that image.
        given: see `CacheOptions.parse`.

    Raises:
        TypeError, ValueError: the options are wrong, no teacher is frozen, or one does not take images.
    """
    options = CacheOptions.parse(given)
    frozen = {name: each for name, each in teachers.items() if type(each) is Teacher}
    if not frozen:
        raise ValueError(
            f"teacher_cache holds the outputs of frozen teachers, but {', '.join(map(repr, teachers))} changes during "
            "the training: remove teacher_cache"
        )
    for name, each in frozen.items():
        if reads_truth(each.model) or has_sensors(each.model):
            raise ValueError(f"teacher_cache holds outputs for images, but teacher {name!r} reads something else")
    found = dict(teachers)
    for name, each in frozen.items():
        logits = default_taps(each.model).get("logits")
        classes = [] if logits is None or sigmoid_logits(each.model, logits) else [logits]
        found[name] = CachedTeacher(each, probed[name], size, options, classes)
    return found


def positions(pixels: int, stride: float) -> int:
    """How many positions a map of a stride has along an axis of an image.

    >>> positions(160, 8.0), positions(161, 8.0), positions(64, 0.5)
    (20, 21, 128)
    """
    return max(1, math.ceil(pixels / stride - 1e-6))


def weights_hash(model: nn.Module) -> str:
    """Return a short hash of a model's weights and buffers, by name.

    >>> one = nn.Linear(2, 2)
    >>> weights_hash(one) == weights_hash(nn.Linear(2, 2))
    False
    """
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
