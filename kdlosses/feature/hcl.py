from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from kdlosses.registry import register
from kdlosses.squared_error import squared_error

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
    total, norm, factor = squared_error(student, teacher, weight), 1.0, 1.0
    if student.ndim == 2:
        return total
    pool, space = _POOL[student.ndim], student.ndim - 2
    if weight is not None:
        weight = weight.to(student.dtype).unsqueeze(1)
        student, teacher = (x.masked_fill(weight == 0, 0) * weight for x in (student, teacher))
    for level in levels:
        if level >= student.shape[2]:
            continue
        factor /= 2
        norm += factor
        cells_s, cells_t = (pool(x, (level,) * space) for x in (student, teacher))
        share = None
        if weight is not None:
            share = pool(weight, (level,) * space)
            cells_s, cells_t = (x / share.masked_fill(share == 0, 1) for x in (cells_s, cells_t))
            share = share.squeeze(1)
        total = total + factor * squared_error(cells_s, cells_t, share)
    return total / norm
