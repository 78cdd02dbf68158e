from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register

_POOL: dict[int, Callable[..., Tensor]] = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}


@register
def hcl(student: Tensor, teacher: Tensor, levels: Sequence[int] = (4, 2, 1), weight: Tensor | None = None) -> Tensor:
    r"""Hierarchical context loss of knowledge review: squared error of a map and of its averages over larger cells.

    With $P_l$ the average pooling to l x l cells, and levels not smaller than the height left out,

    $$ L = \frac{\mathrm{MSE}(f^s, f^t) + \sum_{k=1}^K 2^{-k} \, \mathrm{MSE}(P_{l_k} f^s, P_{l_k} f^t)}
                {1 + \sum_{k=1}^K 2^{-k}}, $$

    where k counts the levels that are used: on a 2x2 map the one pooled level, l = 1, has the factor 1/2. One pair of
    stages a call. Nodes have no pyramid: there, and on 1x1 maps, it is `mse`.

    Args:
        student: features `(N, C, *)` with up to three axes of space.
        teacher: features `(N, C, *)`.
        levels: cells along each axis of space, in the order in which their factor halves.
        weight: `(N, *)`, positions to count; a cell averages those that it has, and counts as much as their share.

    Paper: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021. Factor 1; weights from 1 on ImageNet to
    5 on CIFAR, with a linear warm-up. The fusion of stages (ABF) belongs to the student's side, before the loss.

    >>> import torch
    >>> s = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
    >>> round(hcl(s, torch.zeros(1, 1, 2, 2)).item(), 4)  # (1 + 0 / 2) / 1.5: the average of the map agrees
    0.6667
    """
    if student.ndim > 5:
        raise ValueError(f"hcl pools up to three axes of space, got features of shape {tuple(student.shape)}")
    difference = student - teacher  # pooling is linear: one pyramid does for both sides
    total, norm, factor = weighted_mean(difference.square().mean(1), weight), 1.0, 1.0
    if student.ndim == 2:
        return total
    pool, space = _POOL[student.ndim], student.ndim - 2
    share = None if weight is None else weight.to(student.dtype)
    if share is not None:
        difference = difference.masked_fill((share == 0).unsqueeze(1), 0) * share.unsqueeze(1)
    for level in levels:
        if level >= student.shape[2]:
            continue
        factor /= 2
        norm += factor
        cells = pool(difference, (level,) * space)
        if share is None:
            total = total + factor * weighted_mean(cells.square().mean(1))
            continue
        filled = pool(share.unsqueeze(1), (level,) * space)
        cells = cells / filled.masked_fill(filled == 0, 1)
        total = total + factor * weighted_mean(cells.square().mean(1), filled.squeeze(1))
    return total / norm
