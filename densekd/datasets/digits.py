"""Scenes of real handwritten digits on real photographs, with masks and boxes, drawn on the fly from scikit-learn."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images

Split = Literal["train", "val", "test"]

# Which of five consecutive digit images belong to a split: no digit image is seen in two splits.
_SHARES: dict[str, tuple[int, ...]] = {"train": (0, 1, 2), "val": (3,), "test": (4,)}

INKS: dict[str, tuple[int, int, int]] = {
    "red": (255, 70, 70),
    "green": (70, 230, 70),
    "blue": (80, 110, 255),
    "cyan": (70, 235, 235),
    "yellow": (250, 235, 60),
    "purple": (215, 80, 245),
}
"""Colours of digits that have one with a name, RGB."""


class Scene(NamedTuple):
    """One scene of side $s$ with $n$ digits that do not overlap.

    Attributes:
        image: `(s, s, 3)` uint8, RGB.
        mask: `(s, s)` uint8, 0 for background and 1 + digit on the stroke of a digit.
        boxes: `(n, 4)` float32, x1 y1 x2 y2 in pixels, right and lower edge exclusive: the tightest around each stroke.
        digits: `(n,)` int64, 0 to 9.
        sources: `(n,)` int64, which image of `load_digits` each digit is.
        inks: `(n,)` int64, which of `INKS` each digit has, -1 if none of them.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    digits: np.ndarray
    sources: np.ndarray
    inks: np.ndarray

    def instances(self) -> np.ndarray:
        """The stroke of each digit, `(n, s, s)` bool."""
        found = np.zeros((len(self.boxes), *self.mask.shape), bool)
        for each, (left, top, right, bottom) in zip(found, self.boxes.astype(int)):  # no box holds a part of another
            each[top:bottom, left:right] = self.mask[top:bottom, left:right] > 0
        return found


def draw(index: int, split: Split = "train", size: int = 96, seed: int = 0, inks: bool = False) -> Scene:
    """Draw scene `index` of a split: the same arguments give the same scene, pixel by pixel.

    Two to four digits of 30 to 50 % of the side, in one bright colour each, stand on a random crop of one of the two
    photographs, which are dimmed by half. The splits share the photographs but no digit image: three fifths are for
    training, a fifth each for validation and test.

    Args:
        index: number of the scene, from 0.
        split: whose digits to use.
        size: side of the scene in pixels, 32 to 400.
        seed: another seed gives another data set.
        inks: each digit has one of `INKS`; all else of the scene is the same.

    Raises:
        ValueError: an unknown split, or a side that the photographs cannot fill.

    Data: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998; two photographs, CC BY 2.0, by
    KEITH ROPER (china.jpg) and David Lazar (flower.jpg).

    >>> scene = draw(0, "test")
    >>> scene.image.shape, scene.mask.shape, len(scene.boxes) == len(scene.digits)
    ((96, 96, 3), (96, 96), True)
    """
    if split not in _SHARES:
        raise ValueError(f"no split is called {split!r}; known: {', '.join(_SHARES)}")
    if not 32 <= size <= 400:
        raise ValueError(f"size must be from 32 to 400 pixels, got {size}")
    key = (seed, list(_SHARES).index(split), index)
    rng = np.random.default_rng(key)
    named = np.random.default_rng((*key, 1)).integers(len(INKS), size=4) if inks else np.full(4, -1)
    image = _background(rng, size)
    mask = np.zeros((size, size), np.uint8)
    images, labels = _digits()
    candidates = np.flatnonzero(np.isin(np.arange(len(labels)) % 5, _SHARES[split]))
    taken = np.zeros((size, size), bool)
    boxes: list[tuple[int, int, int, int]] = []
    sources: list[int] = []
    wanted = rng.integers(2, 5)
    for _ in range(50):  # two always find room, a fourth not always
        if len(sources) == wanted:
            break
        source = int(rng.choice(candidates))
        side = int(size * rng.uniform(0.3, 0.5))
        ink = cv2.resize(images[source], (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        top, left = rng.integers(0, size - side + 1, 2)
        place = (slice(top, top + side), slice(left, left + side))
        colour = rng.uniform(160, 255, 3)
        if taken[place].any():
            continue
        if inks:
            colour = np.array(list(INKS.values())[named[len(sources)]], float)
        taken[place] = True
        image[place] = (1 - ink[..., None]) * image[place] + ink[..., None] * colour
        stroke = ink > 0.5
        mask[place][stroke] = 1 + labels[source]
        y, x = np.nonzero(stroke)
        boxes.append((left + x.min(), top + y.min(), left + x.max() + 1, top + y.max() + 1))
        sources.append(source)
    return Scene(
        image.round().astype(np.uint8),
        mask,
        np.array(boxes, np.float32),
        labels[sources].astype(np.int64),
        np.array(sources, np.int64),
        named[: len(sources)].astype(np.int64),
    )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


@functools.cache
def _photographs() -> list[np.ndarray]:
    return [image.astype(np.float32) for image in load_sample_images().images]


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    photograph = _photographs()[rng.integers(2)]
    top = rng.integers(photograph.shape[0] - size + 1)
    left = rng.integers(photograph.shape[1] - size + 1)
    return 0.5 * photograph[top : top + size, left : left + size]
