"""Entities of videos or images as a detector found them: `Scenes`, checked before anything is trained."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.spec import whole
from kdlosses.options import check_known

ARRAYS = ("features", "boxes", "labels", "frame", "video", "track", "context", "actions", "relations", "parts")
NAMES = ("label_names", "action_names", "predicate_names")
REQUIRED = ("features", "boxes", "labels", "frame")
PARTS = ("train", "val", "test")
_SHOWN = 5
_CLASSES = 1 << 16  # more than any detector tells apart: of each there is a column


@dataclass(frozen=True, eq=False)
class Scenes:
    """Entities in frames of videos; an image is a video of one frame. Made by `Scenes.of`, which checks all of it.

    Attributes:
        features: `(N, D)`, a row for each entity in each frame, of any detector or network.
        boxes: `(N, 4)`, left, top, right and bottom, in any unit that a video keeps to.
        labels: `(N,)`, class of the entity, from 0.
        frame: `(N,)`, number of the frame within its video, in the order of time.
        video: `(N,)`, from 0.
        human: which of the `labels` is a human's.
        track: `(N,)`, which rows of a video are one and the same entity; None if that is unknown.
        context: `(N, B)`, features of the whole frame of each row; None if there are none.
        actions: `(V,)`, class of each video from 0, -1 where it is unknown; or `(V, A)` of 0 and 1, several at once,
            -1 in the whole row where it is unknown; None if there are none.
        relations: `(R, 3)`, row of the subject, row of the object, predicate from 0; None if there are none. A pair
            that is not listed has no relation.
        parts: `(V,)`, 0 to learn from, 1 to choose the epoch by, 2 to test; None if they are to be drawn.
        label_names: names of the classes of entities; numbers if not given.
        action_names: likewise, of actions.
        predicate_names: likewise, of predicates.
    """

    features: Tensor
    boxes: Tensor
    labels: Tensor
    frame: Tensor
    video: Tensor
    human: int = 0
    track: Tensor | None = None
    context: Tensor | None = None
    actions: Tensor | None = None
    relations: Tensor | None = None
    parts: Tensor | None = None
    label_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    predicate_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, arrays: Mapping[str, Any], human: int = 0, lonely: str = "raise") -> Scenes:
        """Check arrays and take them.

        Args:
            arrays: NumPy arrays, tensors or lists by the names of the attributes. `features`, `boxes`, `labels` and
                `frame` are needed; without `video` all rows are of one.
            human: see above.
            lonely: what to do about frames with one entity, in which nothing relates to anything: `raise`, or `keep`.

        Raises:
            KeyError: an array is missing.
            TypeError: an array has another name, or holds no numbers.
            ValueError: shapes do not fit, a number is NaN or out of range, a box has no area; names the row.

        >>> box = [[0, 0, 2, 2], [1, 1, 3, 2]]
        >>> Scenes.of(dict(features=[[1.0], [0.5]], boxes=box, labels=[0, 1], frame=[0, 0]))
        <Scenes: 1 video, 1 frame, 2 entities of 2 classes>
        >>> Scenes.of(dict(features=[[1.0], [0.5]], boxes=[[0, 0, 2, 2], [1, 1, 1, 2]], labels=[0, 1], frame=[0, 0]))
        Traceback (most recent call last):
        ValueError: boxes are left, top, right and bottom; row 1 has no area, [1.0, 1.0, 1.0, 2.0]: leave it out
        """
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays are a dict of arrays by name, got a {type(arrays).__name__}")
        arrays = {name: value for name, value in arrays.items() if value is not None}
        check_known("a set of scenes", arrays, (*ARRAYS, *NAMES))
        for name in REQUIRED:
            if name not in arrays:
                raise KeyError(f"the array {name!r} is missing: scenes need {', '.join(REQUIRED)}")
        if lonely not in ("raise", "keep"):
            raise ValueError(f"lonely is 'raise' or 'keep', got {lonely!r}")
        features = _reals("features", arrays["features"], 2)
        rows = len(features)
        if not rows or not features.shape[1]:
            raise ValueError(f"features are (N, D), a row for each entity; got {tuple(features.shape)}")
        found: dict[str, Any] = {
            "features": features,
            "boxes": _boxes(arrays["boxes"], rows),
            "labels": _counts("labels", arrays["labels"], rows),
            "frame": _wholes("frame", arrays["frame"], (rows,)),
            "video": _counts("video", arrays["video"], rows) if "video" in arrays else torch.zeros(rows).long(),
        }
        if "track" in arrays:
            found["track"] = _wholes("track", arrays["track"], (rows,))
        names = {name: _names(name, arrays[name]) for name in NAMES if name in arrays}
        found["human"] = _human(human, found["labels"], names.get("label_names", ()))
        videos = _videos(found["video"])
        if "context" in arrays:
            found["context"] = _reals("context", arrays["context"], 2)
            if len(found["context"]) != rows:
                raise ValueError(
                    f"context is (N, B), that of the frame of each of {rows} rows; got {tuple(found['context'].shape)}"
                )
        if "actions" in arrays:
            found["actions"] = _actions(arrays["actions"], videos, names.get("action_names", ()))
        if "parts" in arrays:
            found["parts"] = _parts(arrays["parts"], videos)
        scenes = cls(**found | names)
        if "relations" in arrays:
            relations = _relations(arrays["relations"], scenes, names.get("predicate_names", ()))
            scenes = replace(scenes, relations=relations)
        scenes._check_frames(lonely)
        return scenes

    def __repr__(self) -> str:
        def of(count: int, what: str) -> str:
            return f"{count} {what}{'' if count == 1 else 's'}"

        told = [
            of(self.videos, "video"),
            of(self.frames, "frame"),
            f"{len(self)} entities of {self.num_labels} classes",
        ]
        if self.actions is not None:
            told.append(of(self.num_actions, "action"))
        if self.relations is not None:
            told.append(f"{of(len(self.relations), 'relation')} of {of(self.num_predicates, 'predicate')}")
        return f"<Scenes: {', '.join(told)}>"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def videos(self) -> int:
        return int(self.video.max()) + 1

    @property
    def frames(self) -> int:
        return int(self.moment.max()) + 1

    @property
    def num_labels(self) -> int:
        return len(self.label_names) or max(int(self.labels.max()), self.human) + 1

    @property
    def num_actions(self) -> int:
        """Classes of actions, 0 if there are none."""
        if self.actions is None:
            return 0
        several = self.actions.shape[1] if self.actions.ndim == 2 else int(self.actions.max()) + 1
        return len(self.action_names) or several

    @property
    def num_predicates(self) -> int:
        """Predicates, 0 if there are none; that there is no relation is none of them."""
        if self.relations is None or not len(self.relations):
            return len(self.predicate_names)
        return len(self.predicate_names) or int(self.relations[:, 2].max()) + 1

    # What follows is kept: computed outside of inference mode, whoever asks first, so that a training may use it.

    @functools.cached_property
    @torch.inference_mode(False)
    def moment(self) -> Tensor:
        """`(N,)`, the frame of each row, counted through all videos in their order."""
        both = torch.stack([self.video, self.frame], 1)
        return both.unique(dim=0, return_inverse=True)[1]

    @functools.cached_property
    @torch.inference_mode(False)
    def place(self) -> Tensor:
        """`(N, 4)`, boxes within the smallest rectangle around all boxes of their video, from 0 to 1."""
        low, high = (_within(self.boxes[:, side], self.video, self.videos, how) for side, how in _SIDES)
        size = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
        return ((self.boxes.view(-1, 2, 2) - low[self.video][:, None]) / size[self.video][:, None]).flatten(1)

    @functools.cached_property
    @torch.inference_mode(False)
    def time(self) -> Tensor:
        """`(N,)`, when a frame is, from 0 at the first of its video to 1 at the last."""
        frame = self.frame[:, None].double()
        low, high = (_within(frame, self.video, self.videos, how)[:, 0] for how in ("amin", "amax"))
        return ((frame[:, 0] - low[self.video]) / (high - low).clamp_min(1)[self.video]).float()

    @functools.cached_property
    @torch.inference_mode(False)
    def pairs(self) -> Tensor:
        """`(2, P)`, subject and object of all ordered pairs of two entities of one frame."""
        return pairs_within(self.moment)

    @functools.cached_property
    @torch.inference_mode(False)
    def through_time(self) -> Tensor:
        """`(2, E)`, rows of one track in two frames of a video, the earlier one first; without tracks, of one class."""
        what = self.labels if self.track is None else self.track
        group = torch.stack([self.video, what], 1).unique(dim=0, return_inverse=True)[1]
        pairs = pairs_within(group)
        return pairs[:, self.moment[pairs[0]] < self.moment[pairs[1]]]

    def place_of(self, pairs: Tensor) -> Tensor:
        """Where each pair of `(2, n)` stands in `pairs`, which holds all of them."""
        code = self.pairs[0] * len(self) + self.pairs[1]
        order = code.argsort()
        return order[torch.searchsorted(code[order], pairs[0] * len(self) + pairs[1])]

    @functools.cached_property
    @torch.inference_mode(False)
    def opposite(self) -> Tensor:
        """`(P,)`, for each of `pairs` where the same pair in the opposite direction stands."""
        return self.place_of(self.pairs.flip(0))

    @functools.cached_property
    @torch.inference_mode(False)
    def pair_targets(self) -> Tensor:
        """`(P, C + 1)`, for each of `pairs` the share of each predicate that it has, last that it has none."""
        targets = torch.zeros(self.pairs.shape[1], self.num_predicates + 1)
        if self.relations is not None and len(self.relations):
            targets[self.place_of(self.relations[:, :2].T), self.relations[:, 2]] = 1
        targets[:, -1] = (targets.sum(1) == 0).float()
        return targets / targets.sum(1, keepdim=True)

    def take(self, videos: Tensor) -> Scenes:
        """The scenes of these videos alone, numbered in this order; raise ValueError for none, and for one twice."""
        if not len(videos) or len(videos.unique()) < len(videos) or videos.dtype is torch.bool:
            raise ValueError(f"take the numbers of one video or more, each once; got {videos.tolist()}")
        new = torch.full((self.videos,), -1)
        new[videos] = torch.arange(len(videos))
        kept = (new[self.video] >= 0).nonzero().flatten()
        row = torch.full((len(self),), -1)
        row[kept] = torch.arange(len(kept))
        relations = self.relations
        if relations is not None:
            relations = relations[row[relations[:, 0]] >= 0]
            relations = torch.stack([row[relations[:, 0]], row[relations[:, 1]], relations[:, 2]], 1)
        each: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[kept] for name in _OF_ROWS
        }
        per_video: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[videos] for name in ("actions", "parts")
        }
        return Scenes(
            **{**each, "video": new[self.video[kept]]},
            **per_video,
            human=self.human,
            relations=relations,
            label_names=self.label_names or tuple(map(str, range(self.num_labels))),
            action_names=self.action_names or tuple(map(str, range(self.num_actions))),
            predicate_names=self.predicate_names or tuple(map(str, range(self.num_predicates))),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `Scenes.of` takes, as NumPy arrays."""
        found: dict[str, np.ndarray] = {}
        for name in (*ARRAYS, *NAMES):
            value = getattr(self, name)
            if value is not None and len(value):
                found[name] = value.numpy() if isinstance(value, Tensor) else np.array(value)
        return found

    def _check_frames(self, lonely: str) -> None:
        counts = torch.bincount(self.moment)
        alone = (counts == 1).nonzero().flatten()
        if lonely == "raise" and len(alone):
            first = [(self.moment == each).nonzero()[0, 0] for each in alone[:_SHOWN]]
            told = _some([f"frame {int(self.frame[row])} of video {int(self.video[row])}" for row in first], len(alone))
            raise ValueError(
                f"one entity alone is in {told}: nothing relates to anything there. Leave these rows out, or pass "
                "lonely='keep'"
            )
        if self.track is not None:
            same = torch.stack([self.moment, self.track], 1)
            kinds, count = same.unique(dim=0, return_counts=True)
            if (count > 1).any():
                moment, track = kinds[int((count > 1).int().argmax())].tolist()
                row = int((self.moment == moment).nonzero()[0, 0])
                raise ValueError(
                    f"track {track} is twice in frame {int(self.frame[row])} of video {int(self.video[row])}: a track "
                    "is one entity through time"
                )


_SIDES = ((slice(0, 2), "amin"), (slice(2, 4), "amax"))
_OF_ROWS = ("features", "boxes", "labels", "frame", "video", "track", "context")


def check_scenes(scenes: Any) -> None:
    """Raise TypeError unless these are scenes."""
    if not isinstance(scenes, Scenes):
        raise TypeError(f"scenes are what Scenes.of, read or load return, got a {type(scenes).__name__}")


def pairs_within(group: Tensor) -> Tensor:
    """All ordered pairs `(2, P)` of two places with the same number.

    >>> pairs_within(torch.tensor([4, 7, 4, 4])).tolist()
    [[0, 0, 2, 2, 3, 3], [2, 3, 0, 3, 0, 2]]
    """
    order = group.argsort(stable=True)
    _, dense, counts = group[order].unique_consecutive(return_inverse=True, return_counts=True)
    many = counts[dense]
    first = (counts.cumsum(0) - counts)[dense]
    source = torch.arange(len(group)).repeat_interleave(many)
    begun = (many.cumsum(0) - many).repeat_interleave(many)
    other = first.repeat_interleave(many) + torch.arange(len(source)) - begun
    apart = source != other
    return torch.stack([order[source[apart]], order[other[apart]]])


def _within(values: Tensor, group: Tensor, groups: int, how: str) -> Tensor:
    """The least or the greatest value in each group, column by column."""
    start = torch.zeros(groups, values.shape[1], dtype=values.dtype)
    return start.scatter_reduce(0, group[:, None].expand_as(values), values, how, include_self=False)


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError) as error:  # of lists that are not alike, and of bfloat16
        raise ValueError(f"{name} is no array of numbers: {error}") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} holds numbers, got an array of {array.dtype}")
    return array


def _reals(name: str, value: Any, dims: int) -> Tensor:
    array = _numbers(name, value)
    if array.ndim != dims:
        raise ValueError(f"{name} has {dims} dimensions, got the shape {array.shape}")
    with np.errstate(over="ignore"):
        found = torch.from_numpy(array.astype(np.float32))
    bad = (~found.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise ValueError(f"{name} holds NaN, infinite or too large numbers in {_rows(bad)}: leave these rows out")
    return found


def _wholes(name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    array = _numbers(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}, expected {shape}: one for each row of features")
    wrong = np.flatnonzero(~np.isfinite(array) | (array != np.floor(array)) | (np.abs(array) > 1 << 53))
    if len(wrong):
        raise ValueError(f"{name} holds whole numbers, row {wrong[0]} is {array.flat[wrong[0]]}")
    return torch.from_numpy(array.astype(np.int64))


def _counts(name: str, value: Any, rows: int) -> Tensor:
    found = _wholes(name, value, (rows,))
    if found.min() < 0:
        row = int((found < 0).int().argmax())
        raise ValueError(f"{name} counts from 0, row {row} is {int(found[row])}: leave it out, or number anew")
    return found


def _boxes(value: Any, rows: int) -> Tensor:
    boxes = _reals("boxes", value, 2)
    if boxes.shape != (rows, 4):
        raise ValueError(f"boxes are (N, 4), for {rows} rows of features; got {tuple(boxes.shape)}")
    flat = ((boxes[:, 2:] <= boxes[:, :2]).any(1)).nonzero().flatten()
    if len(flat):
        raise ValueError(
            f"boxes are left, top, right and bottom; {_rows(flat)} {'has' if len(flat) == 1 else 'have'} no "
            f"area, {boxes[flat[0]].tolist()}: leave it out"
        )
    return boxes


def _names(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str) or np.ndim(value) != 1:
        raise TypeError(f"{name} are a list of strings, got {value!r}")
    if not all(isinstance(each, str | np.str_) for each in value):
        raise TypeError(f"{name} are a list of strings, got {value!r}")
    found = tuple(map(str, value))
    if len(set(found)) < len(found):
        raise ValueError(f"{name} holds a name twice: {found}")
    return found


def _known(what: str, numbers: Tensor, names: Sequence[str]) -> None:
    """Raise for a number that has no name, if there are names, and for one that is no class's."""
    if names and len(numbers) and int(numbers.max()) >= len(names):
        row = int((numbers >= len(names)).int().argmax())
        raise ValueError(
            f"{what} of row {row} is {int(numbers[row])}, an unknown class: there are names of {len(names)}, 0 to "
            f"{len(names) - 1}"
        )
    if len(numbers) and int(numbers.max()) >= _CLASSES:
        row = int(numbers.argmax())
        raise ValueError(
            f"{what} of row {row} is {int(numbers[row])}, and there are at most {_CLASSES} classes: number them anew, "
            "from 0 without a gap"
        )


def _human(human: Any, labels: Tensor, names: Sequence[str]) -> int:
    _known("labels", labels, names)
    human = whole("human", human)
    if names and human >= len(names):
        raise ValueError(f"human is {human}, an unknown class: there are names of {len(names)} classes of entities")
    if human >= _CLASSES:
        raise ValueError(f"human is {human}, and there are at most {_CLASSES} classes")
    return human


def _videos(video: Tensor) -> int:
    there = video.unique()
    gap = there != torch.arange(len(there))
    if gap.any():
        raise ValueError(
            f"video {int(gap.int().argmax())} has no entity, and video {int(there[-1])} has: number videos from 0 "
            "without a gap"
        )
    return len(there)


def _actions(value: Any, videos: int, names: Sequence[str]) -> Tensor:
    array = _numbers("actions", value)
    if array.ndim not in (1, 2) or len(array) != videos:
        raise ValueError(f"actions are (V,) or (V, A), for {videos} videos; got the shape {array.shape}")
    found = _wholes("actions", array, array.shape)
    if not found.numel():
        raise ValueError(f"actions are empty, of the shape {array.shape}: leave the array out if there are none")
    if found.min() < -1:
        raise ValueError(f"actions count from 0, -1 is an unknown one; got {int(found.min())}")
    if found.ndim == 1:
        _known("actions", found, names)
        if found.max() < 0:
            raise ValueError("actions are unknown, -1, of all videos: nothing can be learned")
        return found
    if names and found.shape[1] != len(names):
        raise ValueError(f"actions are {found.shape[1]} columns, and there are {len(names)} action_names")
    known = found.min(1).values >= 0
    partly = ~known & (found.max(1).values >= 0)
    if found.max() > 1 or partly.any():
        raise ValueError("actions (V, A) are 0 and 1, or -1 in a whole row that is unknown")
    if not known.any():
        raise ValueError("actions are unknown, -1, of all videos: nothing can be learned")
    return found


def _parts(value: Any, videos: int) -> Tensor:
    found = _wholes("parts", value, (videos,))
    missing = [name for number, name in enumerate(PARTS) if not (found == number).any()]
    if missing or found.min() < 0 or found.max() > 2:
        what = f"no video is of {missing[0]}" if missing else f"got {sorted(set(found.tolist()))}"
        raise ValueError(f"parts are 0 (train), 1 (val) and 2 (test), one for each of {videos} videos: {what}")
    return found


def _relations(value: Any, scenes: Scenes, names: Sequence[str]) -> Tensor:
    array = _numbers("relations", value)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"relations are (R, 3), subject, object and predicate; got the shape {array.shape}")
    found = _wholes("relations", array, array.shape)
    if not len(found):
        raise ValueError("relations are empty: leave the array out if there are none")

    def fail(wrong: Tensor, why: str) -> None:
        if wrong.any():
            row = int(wrong.int().argmax())
            raise ValueError(f"row {row} of relations, {found[row].tolist()}: {why}")

    ends = found[:, :2]
    fail((ends < 0).any(1) | (ends >= len(scenes)).any(1), f"subject and object are rows, 0 to {len(scenes) - 1}")
    fail(found[:, 2] < 0, "predicates count from 0")
    fail(ends[:, 0] == ends[:, 1], "subject and object are the same row")
    fail(scenes.moment[ends[:, 0]] != scenes.moment[ends[:, 1]], "subject and object are not in one frame")
    _known("predicates", found[:, 2], names)
    _, back, count = found.unique(dim=0, return_inverse=True, return_counts=True)
    fail(count[back] > 1, "it stands twice")
    return found


def _rows(rows: Tensor) -> str:
    return ("row " if len(rows) == 1 else "rows ") + _some([str(int(each)) for each in rows[:_SHOWN]], len(rows))


def _some(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
