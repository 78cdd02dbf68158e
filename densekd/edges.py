"""Pixels near the edges of label maps and of instances, and how good predictions are there; of torch alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

WIDTH = 3
"""How near an edge the pixels of a band lie, in pixels of the ground truth, where nobody says otherwise."""

_BITS = 62
"""Instances in one integer."""


def edge_distance(labels: Tensor, reach: float, ignore_index: int = 255) -> Tensor:
    """Euclidean distance of each pixel to the nearest one of another class, infinity beyond `reach`.

    Neighbours are 1 apart. Ignored and negative labels are no class: such a pixel is near nothing, and nothing is near
    it.

    Args:
        labels: `(..., H, W)`, integers.
        reach: in pixels.
        ignore_index: label that does not count.

    Returns:
        `(..., H, W)`, float32.

    >>> edge_distance(torch.tensor([[0, 0, 0, 1, 255, 0]]), reach=2).tolist()
    [[inf, 2.0, 1.0, 1.0, inf, 2.0]]
    """
    valid = (labels >= 0) & (labels != ignore_index)
    found = torch.full(labels.shape, math.inf, device=labels.device)
    height, length = labels.shape[-2:]
    for down, right in sorted(_half_disc(reach), key=lambda step: -math.hypot(*step)):  # what is nearer is written last
        if down >= height or abs(right) >= length:
            continue
        here = ..., slice(0, height - down), slice(max(0, -right), length - max(0, right))
        there = ..., slice(down, height), slice(max(0, right), length + min(0, right))
        edge = (labels[here] != labels[there]) & valid[here] & valid[there]
        for side in (here, there):
            found[side].masked_fill_(edge, math.hypot(down, right))
    return found


def near_edge(labels: Tensor, width: float, ignore_index: int = 255) -> Tensor:
    """Which pixels of a label map `(..., H, W)` have one of another class at a Euclidean distance of `width` or less.

    Ignored and negative labels are no class, and no pixel of theirs is near one.

    >>> near_edge(torch.tensor([[0, 0, 0, 1, 255, 0]]), width=1).int().tolist()
    [[0, 0, 1, 1, 0, 0]]
    """
    return edge_distance(labels, width, ignore_index).isfinite()


def near_outline(masks: Tensor, width: float, void: Tensor | None = None) -> Tensor:
    """Which pixels are near the outline of an instance, on either side of it.

    Such a pixel has another one at a Euclidean distance of `width` or less that is in an instance which it is not in
    itself, or the other way round. Two instances that touch have an outline between them, two that overlap both of
    theirs; the border of the image is none.

    Args:
        masks: of the instances `(n, H, W)`, bool.
        width: in pixels.
        void: pixels `(H, W)`, bool, that are no background, such as padding: none of them is near an outline, nor makes
            one; none if not given.

    Returns:
        `(H, W)`, bool.

    >>> masks = torch.tensor([[[1, 1, 0, 0, 0, 0]], [[0, 0, 1, 0, 0, 0]]]).bool()  # they touch
    >>> near_outline(masks, width=1).int().tolist()
    [[0, 1, 1, 1, 0, 0]]
    """
    if void is None:
        void = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    found = torch.zeros_like(void)
    for some in masks.split(_BITS):  # a bit for each: pixels differ in a bit where a mask has one of them alone
        bits = torch.zeros(void.shape, dtype=torch.int64, device=masks.device)
        for place, mask in enumerate(some):
            bits |= mask.long() << place
        found |= near_edge(bits.masked_fill_(void, -1), width, ignore_index=-1)
    return found


def boundary_counts(
    guess: Tensor, truth: Tensor, classes: int, width: float = WIDTH, ignore_index: int = 255
) -> Tensor:
    """Pixels near an edge of the truth, counted by class: of intersection and of union, `(2, classes)`.

    Args:
        guess: `(..., H, W)`, classes; one that is not among `classes` is wrong.
        truth: `(..., H, W)`.
        classes: how many there are.
        width: see `near_edge`.
        ignore_index: label that does not count; neither do negative ones.

    Raises:
        ValueError: the two differ in shape; a label near an edge is none of the classes.

    >>> truth, guess = torch.tensor([[0, 0, 0, 1, 1, 1]]), torch.tensor([[1, 0, 1, 1, 1, 1]])
    >>> boundary_counts(guess, truth, classes=2, width=1).tolist()
    [[0, 1], [1, 2]]
    """
    _check_shapes(guess, truth)
    near = near_edge(truth, width, ignore_index)
    guess, truth = guess[near].long(), truth[near].long()
    if truth.numel() and truth.max() >= classes:
        raise ValueError(f"label {truth.max().item()} is none of the {classes} classes of the data set")
    agree, mine, its = (  # a model may have classes that the data set has not
        torch.bincount(labels, minlength=classes)[:classes] for labels in (guess[guess == truth], guess, truth)
    )
    return torch.stack([agree, mine + its - agree])


def class_iou(counts: Tensor) -> Tensor:
    """IoU of each class from the sums of `boundary_counts` over images; NaN for a class of which there is no pixel.

    >>> class_iou(torch.tensor([[0, 1, 0], [1, 2, 0]])).tolist()
    [0.0, 0.5, nan]
    """
    agree, either = counts.double()
    return agree / either


def edge_errors(guess: Tensor, truth: Tensor, within: int = WIDTH, ignore_index: int = 255) -> Tensor:
    r"""Count wrong and all pixels by their distance to an edge of the truth.

    Row $k = 0, 1, \dots$ counts pixels whose distance d to the nearest pixel of another class, see `edge_distance`,
    has $k < d \le k + 1$; the last row those that are further than `within`. Ignored pixels are not counted.

    Args:
        guess: `(..., H, W)`, classes.
        truth: `(..., H, W)`, label maps.
        within: width of the band, in whole pixels.
        ignore_index: label that does not count; neither do negative ones.

    Returns:
        `(within + 1, 2)`: wrong pixels, and all.

    Raises:
        ValueError: the two differ in shape; a band below 1.
        TypeError: the band is not in whole pixels.

    >>> truth, guess = torch.tensor([[0, 0, 0, 0, 1, 1, 255]]), torch.tensor([[0, 1, 0, 1, 1, 1, 1]])
    >>> edge_errors(guess, truth, within=2).tolist()  # next to the edge 1 of 2, one further 0 of 2, then 1 of 2
    [[1, 2], [0, 2], [1, 2]]
    """
    _check_shapes(guess, truth)
    if within < 1:
        raise ValueError(f"the pixels on both sides of an edge are 1 apart: within must be at least 1, got {within}")
    if not isinstance(within, int):
        raise TypeError(f"within is a whole number of pixels, got {within!r}")
    valid = (truth >= 0) & (truth != ignore_index)
    row = edge_distance(truth, within, ignore_index)[valid].sub(1).ceil().clamp(max=within).long()
    wrong = (guess != truth)[valid]
    return torch.stack([torch.bincount(each, minlength=within + 1) for each in (row[wrong], row)], dim=1)


def _check_shapes(guess: Tensor, truth: Tensor) -> None:
    if guess.shape != truth.shape:
        raise ValueError(f"a prediction has {tuple(guess.shape)} pixels, its ground truth {tuple(truth.shape)}")


def _half_disc(radius: float) -> list[tuple[int, int]]:
    """Steps of at most `radius`, one of each two that are opposite."""
    reach = range(-int(radius), int(radius) + 1)
    return [(y, x) for y in reach for x in reach if (y, x) > (0, 0) and y * y + x * x <= radius * radius]
