"""Where an augmented image lies on the image that was loaded, and how a map of the whole image is read there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Place(NamedTuple):
    r"""Pixels of an augmented image on the loaded one: $x_0 = a_x x + b_x$, $y_0 = a_y y + b_y$.

    Coordinates are continuous: pixel i covers [i, i + 1]. A negative factor is a flip.

    >>> crop = Place().resized((100, 200), (50, 100)).cropped(10, 20)
    >>> crop
    Place(ax=2.0, bx=40.0, ay=2.0, by=20.0)
    >>> crop.flipped((32, 32), "horizontal")
    Place(ax=-2.0, bx=104.0, ay=2.0, by=20.0)
    """

    ax: float = 1.0
    bx: float = 0.0
    ay: float = 1.0
    by: float = 0.0

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Place:
        """After a resize from and to (height, width)."""
        return self._replace(ax=self.ax * before[1] / after[1], ay=self.ay * before[0] / after[0])

    def cropped(self, top: int, left: int) -> Place:
        """After a crop that begins at a pixel."""
        return self._replace(bx=self.bx + self.ax * left, by=self.by + self.ay * top)

    def flipped(self, size: tuple[int, int], direction: str) -> Place:
        """After a flip of an image of `size` (height, width): 'horizontal', 'vertical' or 'diagonal', which is both."""
        place = self
        if direction in ("horizontal", "diagonal"):
            place = place._replace(ax=-place.ax, bx=place.bx + place.ax * size[1])
        if direction in ("vertical", "diagonal"):
            place = place._replace(ay=-place.ay, by=place.by + place.ay * size[0])
        return place


def crop_of(before: np.ndarray, after: np.ndarray) -> tuple[int, int] | None:
    """Return the top and the left pixel of a crop that is a view of an image; None where it is no view of it.

    >>> image = np.zeros((8, 9, 3), np.uint8)
    >>> crop_of(image, image[2:5, 3:9]), crop_of(image[:, ::-1], image[:, ::-1][2:5, 3:9])
    ((2, 3), (2, 3))
    >>> crop_of(image, image[2:5].copy()) is None
    True
    """
    if after.ndim != before.ndim or after.strides != before.strides or not np.may_share_memory(before, after):
        return None
    (down, right), shift = before.strides[:2], _address(after) - _address(before)
    # the stride of a flipped axis is negative
    shift *= 1 if down > 0 else -1
    down, right = abs(down), right if down > 0 else -right
    top = shift // down if right > 0 else -(-shift // down)
    left, rest = divmod(shift - top * down, right)
    fits = 0 <= top <= before.shape[0] - after.shape[0] and 0 <= left <= before.shape[1] - after.shape[1]
    return (top, left) if not rest and fits else None


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def replay(
    maps: Tensor,
    seen: Place,
    wanted: Place,
    stride: tuple[float, float],
    size: tuple[int, int],
) -> Tensor:
    r"""Read a map of the whole image at the positions of an augmented one, bilinearly.

    Position i of a map of stride s lies at pixel $(i + 1/2) s$ of its image. Where all positions fall on positions of
    the map, as without augmentation, its values are copied. Positions outside of the map take the nearest value.

    Args:
        maps: `(C, h, w)`, of the image that the teacher saw.
        seen: where that image lies on the loaded one.
        wanted: where the augmented image lies on the loaded one.
        stride: pixels between positions of the map, down and across; of both images.
        size: height and width of the result, in positions.

    Returns:
        `(C, *size)`.

    >>> columns = torch.arange(4.0).expand(1, 2, 4)
    >>> replay(columns, Place(), Place().flipped((16, 32), "horizontal"), (8, 8), (2, 4))[0, 0].tolist()
    [3.0, 2.0, 1.0, 0.0]
    >>> replay(columns, Place(), Place().cropped(0, 12), (8, 8), (1, 2))[0, 0].tolist()
    [1.5, 2.5]
    """
    axes = ((wanted.ay, wanted.by, seen.ay, seen.by), (wanted.ax, wanted.bx, seen.ax, seen.bx))
    for axis, (a, b, a_seen, b_seen), step, count in zip((1, 2), axes, stride, size):
        pixels = a * (np.arange(count) + 0.5) * step + b
        at = (pixels - b_seen) / a_seen / step - 0.5
        maps = _along(maps, axis, at)
    return maps


def _along(maps: Tensor, axis: int, at: np.ndarray) -> Tensor:
    """Linear interpolation along an axis, at indices that may lie between two or outside."""
    near = np.round(at)
    at = np.where(np.abs(at - near) < 1e-4, near, at).clip(0, maps.shape[axis] - 1)
    low = np.floor(at)
    share = at - low
    first = torch.from_numpy(low.astype(np.int64)).to(maps.device)
    if not share.any():
        whole = len(at) == maps.shape[axis] and bool((low == np.arange(len(at))).all())
        return maps if whole else maps.index_select(axis, first)
    second = (first + 1).clamp(max=maps.shape[axis] - 1)
    shape = [-1 if each == axis else 1 for each in range(maps.ndim)]
    factor = torch.from_numpy(share).to(maps).reshape(shape)
    return torch.lerp(maps.index_select(axis, first), maps.index_select(axis, second), factor)
