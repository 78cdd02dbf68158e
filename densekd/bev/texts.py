"""Sentences about objects, and the features of instances that learn from them. Plain tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from torch import Tensor

from densekd.sensors.geometry import Extent, pad, read


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

    >>> import torch
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


def at_centres(maps: Tensor, boxes_bev: Sequence[Tensor], extent: Extent) -> tuple[Tensor, Tensor]:
    """Sample maps `(B, C, h, w)` at the centres of boxes: a feature for each instance.

    Args:
        maps: bird's-eye-view maps.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw.
        extent: what the maps show.

    Returns:
        `(N, C)`, the boxes of all samples one after the other, and which of them lie on the map `(N,)`.

    >>> import torch
    >>> ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    >>> boxes = torch.tensor([[2.0, 0.0, 1, 1, 0], [9.0, 0.0, 1, 1, 0]])
    >>> at_centres(ramp, [boxes], Extent(0, -3, 4, 3))[1].tolist()
    [True, False]
    """
    boxes, real = pad(boxes_bev, maps)
    features, counts = read(maps, boxes[..., :2], extent)
    return features[real], counts[real] > 0
