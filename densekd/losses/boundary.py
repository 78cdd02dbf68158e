"""Bands along the edges between classes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 16  # classes at a time: a map per class at the size of the labels would be too much


def class_edges(
    label_map: Tensor, classes: int, size: Sequence[int], kernel: int = 7, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    r"""Return the edge band of each class, and the labelled area, as shares of the cells of a smaller map.

    A pixel lies on the band of a class if the square window of side k around it holds that class and another one;
    ignored pixels are neither. Then it is in the dilation of the class's mask and not in its erosion. An ignored pixel
    is on no band. A straight edge has a band of k - 1 pixels for each of its two classes.

    Args:
        label_map: classes `(B, H, W)`.
        classes: C.
        size: (h, w) of the smaller map.
        kernel: k, odd, in pixels of the label map.
        ignore_index: label that does not count; neither do negative ones.

    Returns:
        shares `(B, C, h, w)` and `(B, h, w)`, float32, in [0, 1].

    >>> edges, labelled = class_edges(torch.tensor([[[0, 0, 0, 1, 1, 1]]]), classes=2, size=(1, 6), kernel=3)
    >>> edges[0, :, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the side of the window must be odd and at least 1, got kernel={kernel}")
    valid = (label_map >= 0) & (label_map != ignore_index)
    labels = label_map.where(valid, -1).unsqueeze(1).int()
    cells = size[0], size[1]

    def widest(values: Tensor) -> Tensor:
        return F.max_pool2d(values, kernel, stride=1, padding=kernel // 2)

    highest = widest(labels.float())
    lowest = -widest(-labels.where(labels >= 0, classes).float())
    mixed = (highest > lowest) & (labels >= 0)  # where nothing is valid the highest is -1 and the lowest C
    bands = []
    for start in range(0, classes, _BLOCK):
        bit = torch.arange(min(_BLOCK, classes - start), device=labels.device, dtype=labels.dtype).view(1, -1, 1, 1)
        place = labels - start
        word = (1 << place.clamp(0, _BLOCK - 1)).where((place >= 0) & (place < _BLOCK), 0)
        here = (_or_around(word, kernel) * mixed >> bit) & 1
        bands.append(F.adaptive_avg_pool2d(here.float(), cells))
    return torch.cat(bands, dim=1), F.adaptive_avg_pool2d(valid.float(), cells)


def _or_around(bits: Tensor, kernel: int) -> Tensor:
    """Bitwise or over the square window around each pixel of `(B, 1, H, W)`: the classes there, a bit for each."""
    reach = kernel // 2
    for dim, margins in ((2, (0, 0, reach, reach)), (3, (reach, reach))):
        padded = F.pad(bits, margins)
        shifted = (padded.narrow(dim, step, bits.shape[dim]) for step in range(kernel))
        bits = functools.reduce(torch.bitwise_or, shifted)
    return bits
