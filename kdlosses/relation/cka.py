from __future__ import annotations

import torch
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.points import View, centred_points, points


@register(match="positions")
def cka(
    student: Tensor,
    teacher: Tensor,
    view: View = "batch",
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""One minus the linear centred kernel alignment of the two sets of points.

    With X (n, C_s), Y (n, C_t) the points, each channel centred,

    $$ L = 1 - \frac{\|Y' X\|_F^2}{\|X' X\|_F \, \|Y' Y\|_F} \;\in [0, 1]. $$

    Rotation, translation and scale of either side change nothing; a general linear map does. Few points make it small
    whatever they are: take n of at least 4 C. Points that are all the same count as unlike anything: 1. Computed from
    C x C or n x n matrices, whichever are smaller.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        view: what the points are, see `kdlosses.relation.points`.
        draw: number of points to draw at random in each call; all if not given.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node.

    Paper: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, for the measure. As a
    loss: Saha et al., "Distilling Representational Similarity using Centered Kernel Alignment", BMVC 2022. Factor 1.

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> cka(f, 5 - 2 * f).abs().item() < 1e-6, round(cka(f, torch.tensor([[1.0], [-1.0], [0.0]])).item(), 4)
    (True, 0.0513)
    """
    student, teacher, weight = points(student, teacher, weight, batch, view, draw)
    root = weight.sqrt().unsqueeze(2)
    x, y = root * centred_points(student, weight), root * centred_points(teacher, weight)
    if x.shape[1] < max(x.shape[2], y.shape[2]):
        gram_x, gram_y = x @ x.mT, y @ y.mT
        cross = (gram_x * gram_y).sum((1, 2))
    else:
        gram_x, gram_y = x.mT @ x, y.mT @ y
        cross = (y.mT @ x).square().sum((1, 2))
    norms = _norm(gram_x, student, weight) * _norm(gram_y, teacher, weight)
    likeness = cross.masked_fill(norms == 0, 0) / norms.masked_fill(norms == 0, 1)
    return weighted_mean(1 - likeness, (weight > 0).any(1))


def _norm(gram: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """Frobenius norm, or 0 where centring left nothing but rounding."""
    norm = torch.linalg.vector_norm(gram, dim=(1, 2))
    rounding = (16 * torch.finfo(norm.dtype).eps) ** 2 * (weight * points.square().sum(2)).sum(1)
    return norm.masked_fill(norm <= rounding, 0)
