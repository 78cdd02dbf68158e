"""Where one class ends and another begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 16  # classes at a time: a map per class at the size of the labels would be too much


def class_edges(
    label_map: Tensor, classes: int, size: Sequence[int], kernel: int = 7, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    r"""The edge band of each class, and what is labelled at all, as shares of the cells of a smaller map.

    Within a square window of side k around a pixel, let a class be present, and another one, too; what is ignored is
    neither. Then the pixel lies on the band of that class: it is in the dilation of the class's mask and not in its
    erosion. An ignored pixel is on no band. A straight edge has a band of k - 1 pixels for each of its two classes.

    Args:
        label_map: classes `(B, H, W)`.
        classes: C.
        size: (h, w) of the map whose cells are asked for.
        kernel: k, odd, in pixels of the label map.
        ignore_index: label that does not count; neither do negative ones.

    Returns:
        shares `(B, C, h, w)` and `(B, h, w)`, float32, in [0, 1].

    >>> edges, labelled = class_edges(torch.tensor([[[0, 0, 0, 1, 1, 1]]]), classes=2, size=(1, 6), kernel=3)
    >>> edges[0, :, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the window of an edge has an odd side, got kernel={kernel}")
    labels, cells = label_map.unsqueeze(1), (size[0], size[1])
    valid = (labels >= 0) & (labels != ignore_index)

    def widest(values: Tensor) -> Tensor:  # one axis after the other: 2 k comparisons in place of k^2
        along = F.max_pool2d(values, (1, kernel), stride=1, padding=(0, kernel // 2))
        return F.max_pool2d(along, (kernel, 1), stride=1, padding=(kernel // 2, 0))

    highest = widest(labels.where(valid, -1).float())
    lowest = -widest(-labels.where(valid, classes).float())
    mixed = (highest > lowest) & valid  # where nothing is valid the highest is -1 and the lowest C
    bands = []
    for start in range(0, classes, _BLOCK):
        some = torch.arange(start, min(start + _BLOCK, classes), device=labels.device).view(1, -1, 1, 1)
        bands.append(F.adaptive_avg_pool2d(widest((labels == some).float()) * mixed, cells))
    return torch.cat(bands, dim=1), F.adaptive_avg_pool2d(valid.float(), cells)[:, 0]
