"""Sentences about objects and their frozen embeddings, as teachers of instance features. Plain tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from densekd.sensors.geometry import Extent, pad, read
from kdlosses import nearest
from kdlosses.whole import whole


def describe(
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    front: str = "x",
    near: float = 20.0,
    ahead: float = 20.0,
    moving: float = 0.5,
) -> list[str]:
    """Describe each box in words: class, motion, distance and direction.

    Args:
        boxes: `(n, 7)` or `(n, 9)`: x, y, z, three sizes, yaw, and velocity along x and y, if there is one, in metres
            and seconds; y to the left of x. An unknown velocity (NaN) counts as parked.
        labels: `(n,)`, index into `classes`.
        classes: names.
        front: axis that points ahead: 'x' in KITTI, 'y' in nuScenes' LiDAR frame.
        near: largest distance of a near object, in metres.
        ahead: in degrees; an object is ahead up to this angle to either side, and behind likewise.
        moving: lowest speed of a moving object, in metres per second.

    Raises:
        ValueError: boxes of another layout, an unknown axis, or a label that is not a class.

    >>> boxes = torch.tensor([[10.0, 8.0, 0, 4, 2, 1.5, 0, 3.0, 0.0], [30.0, 0, 0, 4, 2, 1.5, 0, 0, 0]])
    >>> describe(boxes, torch.tensor([0, 1]), ["car", "truck"])
    ['a car moving, near, left', 'a truck parked, far, ahead']
    """
    if boxes.ndim != 2 or boxes.shape[1] not in (7, 9):
        raise ValueError(f"boxes have shape (n, 7), or (n, 9) with a velocity, got {tuple(boxes.shape)}")
    if front not in ("x", "y"):
        raise ValueError(f"front must be 'x' or 'y', got {front!r}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ValueError(
            f"labels are classes 0 to {len(classes) - 1}, got {int(labels.min())} to {int(labels.max())}: remove "
            "boxes without a class"
        )
    x, y = boxes[:, 0].tolist(), boxes[:, 1].tolist()
    speeds = boxes[:, 7:9].norm(dim=1).tolist() if boxes.shape[1] == 9 else [0.0] * len(boxes)
    found = []
    for label, a, b, speed in zip(labels.tolist(), x, y, speeds):
        angle = math.degrees(math.atan2(b, a) if front == "x" else math.atan2(-a, b))
        away = abs(angle)
        side = "ahead" if away <= ahead else "behind" if away >= 180 - ahead else "left" if angle > 0 else "right"
        motion = "moving" if speed >= moving else "parked"
        found.append(_sentence(classes[label], motion, "near" if math.hypot(a, b) <= near else "far", side))
    return found


def sentences(classes: Sequence[str]) -> list[str]:
    """List every sentence that `describe` can return for these classes.

    Raises:
        ValueError: no classes, a duplicate, or an empty name.

    >>> len(sentences(["car", "truck"])), sentences(["car"])[0]
    (32, 'a car moving, near, ahead')
    """
    if not classes or len(set(classes)) < len(classes) or not all(map(str.strip, classes)):
        raise ValueError(f"classes must be distinct names that are not empty, got {list(classes)}")
    said = product(classes, ("moving", "parked"), ("near", "far"), ("ahead", "behind", "left", "right"))
    return [_sentence(*words) for words in said]


def _sentence(name: str, motion: str, away: str, side: str) -> str:
    return f"a {name} {motion}, {away}, {side}"


class TextTable:
    """Frozen embeddings of texts, from a safetensors file with a vector under each text.

    Args:
        path: the file.

    Attributes:
        channels: width of an embedding.

    Raises:
        FileNotFoundError, ValueError: no such file, or it does not hold vectors of one width.
        KeyError: on a text that is not in the file; the message names the nearest.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "texts.safetensors"
    >>> write(path, {"a car": torch.tensor([1.0, 0.0]), "a bus": torch.tensor([0.0, 1.0])})
    >>> TextTable(path)(["a bus", "a car", "a bus"]).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file of text embeddings at {self.path}")
        try:
            found = load_file(self.path)
        except SafetensorError as error:
            raise ValueError(f"{self.path} is no safetensors file ({error}): write or fetch it again") from error
        shapes = sorted({tuple(vector.shape) for vector in found.values()})
        if len(shapes) != 1 or len(shapes[0]) != 1:
            raise ValueError(f"{self.path} must hold a vector of one width for each text, it has the shapes {shapes}")
        bad = next((text for text, vector in found.items() if not vector.float().isfinite().all()), None)
        if bad is not None:
            raise ValueError(f"the embedding of {bad!r} in {self.path} is not finite")
        self.place = {text: i for i, text in enumerate(found)}
        self.vectors = torch.stack([vector.float() for vector in found.values()])
        self.channels = self.vectors.shape[1]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(n, channels)` of texts."""
        missing = [text for text in texts if text not in self.place]
        if missing:
            raise KeyError(
                f"{self.path} has no embedding of {missing[0]!r}, one of {len(set(missing))} texts that it lacks; "
                f"{nearest(missing[0], self.place)}"
            )
        return self.vectors[[self.place[text] for text in texts]]


def write(path: str | Path, embeddings: Mapping[str, Tensor]) -> None:
    """Write the file of a `TextTable` atomically.

    Raises:
        ValueError: there are no embeddings, they are not of one width, or one is not finite.
        OSError: the file could not be written; names it.
    """
    shapes = sorted({tuple(vector.shape) for vector in embeddings.values()})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"expected a vector of one width for each text, got the shapes {shapes}")
    if bad := [text for text, vector in embeddings.items() if not vector.isfinite().all()]:
        raise ValueError(f"the embedding of {bad[0]!r} is not finite")
    with whole(path) as draft:
        save_file({text: vector.detach().cpu().contiguous() for text, vector in embeddings.items()}, draft)


def at_centres(maps: Tensor, boxes_bev: Sequence[Tensor], extent: Extent) -> tuple[Tensor, Tensor]:
    """Sample maps `(B, C, h, w)` at the centres of boxes: a feature for each instance.

    Args:
        maps: bird's-eye-view maps.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw.
        extent: what the maps show.

    Returns:
        `(N, C)`, the boxes of all samples one after the other, and which of them lie on the map `(N,)`.

    >>> ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    >>> boxes = torch.tensor([[2.0, 0.0, 1, 1, 0], [9.0, 0.0, 1, 1, 0]])
    >>> at_centres(ramp, [boxes], Extent(0, -3, 4, 3))[1].tolist()
    [True, False]
    """
    boxes, real = pad(boxes_bev, maps)
    features, counts = read(maps, boxes[..., :2], extent)
    return features[real], counts[real] > 0
