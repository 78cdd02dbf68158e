from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses import register, weighted_mean
from kdlosses.unit import unit


@register(match="positions", categorical=True)
def cell_similarity(student: Tensor, teacher: Tensor, cells: int = 7, weight: Tensor | None = None) -> Tensor:
    r"""Match the cosine similarities between the regions of an image.

    Maps are pooled to R = 7 x 7 cells r; with $a_{nr}$ the mean feature of a cell, scaled to length 1,

    $$ S_n[r, q] = a_{nr}' a_{nq}, \qquad L = \mathrm{mean}_{n,r,q} \, (S^s_n[r, q] - S^t_n[r, q])^2. $$

    Rotation and scale of either side change nothing, nor need the channels agree.

    Args:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.
        cells: along each axis; no more than a map has positions there.
        weight: `(N, h, w)`, positions to count; cells without any are not in the mean.

    Raises:
        ValueError: fewer than one cell.

    Paper: Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic
    Segmentation", ECCV 2022, region level. Factor 1: their weight is 100, or 50 for a MobileNetV2. The bound on the
    number of cells is our own.

    >>> import torch
    >>> one = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    >>> cell_similarity(one, torch.ones(1, 1, 1, 2)).item()  # unlike on one side, alike on the other: two of four pairs
    0.5
    """
    if cells < 1:
        raise ValueError(f"cell_similarity: cells must be at least 1, got {cells}")
    size = min(cells, student.shape[2]), min(cells, student.shape[3])
    weight = torch.ones_like(student[:, 0]) if weight is None else weight.to(student.dtype)
    mine, its = similarity(student * weight.unsqueeze(1), size), similarity(teacher * weight.unsqueeze(1), size)
    counted = F.adaptive_avg_pool2d(weight, size).flatten(1) > 0
    return weighted_mean((mine - its).square(), counted.unsqueeze(1) & counted.unsqueeze(2))


def similarity(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Cosines between the cells of each map `(N, R, R)`; a mean over a cell may be a sum as well."""
    cells = unit(F.adaptive_avg_pool2d(maps, size).flatten(2), dim=1)
    return cells.mT @ cells
