"""Logits and labels of a map at the size of another map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def resized(loss: str, name: str, logits: Tensor, like: Tensor) -> Tensor:
    """Logits `(N, C, H, W)` of a map at the size of another map, by bilinear interpolation; as they are where they fit.

    Raises:
        ValueError: the two are no maps and have other positions; names the `loss` and the `name` of the logits.

    >>> import torch
    >>> resized("prokd", "teacher_logits", torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, 4, 6)).shape
    torch.Size([2, 3, 4, 6])
    """
    size = like.shape[2:]
    if logits.shape[2:] == size:
        return logits
    if logits.ndim != 4 or len(size) != 2:
        raise ValueError(f"{loss}: {name} {tuple(logits.shape)} do not fit the positions of {tuple(like.shape)}")
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def labels_at(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Classes of maps `(N, H, W)` at another size, by nearest neighbour: labels that do not count stay what they are.

    Labels of rows, and of a `size` that is none of a map, stay as they are.

    >>> import torch
    >>> labels_at(torch.tensor([[[0, 0, 255, 1]]]), (1, 2))
    tensor([[[  0, 255]]])
    """
    if labels.ndim != 3 or len(size) != 2:
        return labels.long()
    return F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest")[:, 0].long()
