from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.points import View, points


@register(match="positions")
def sp(
    student: Tensor,
    teacher: Tensor,
    view: View = "batch",
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Similarity preserving: match the inner products between points, each row scaled to length 1.

    With $G = F F'$ of the points $F$ (n, C), and $\hat G$ its rows divided by their norm,

    $$ L = \frac{1}{n^2} \|\hat G^s - \hat G^t\|_F^2
         = \frac{2}{n^2} \sum_i (1 - \cos(G^s_i, G^t_i)) \;\in [0, 4 / n]. $$

    Rotation and scale of either side change nothing, a translation does. The value falls as 1 / n. The cosines follow
    from C x C matrices, so G is never held unless it is the smaller one; a zero row has cosine 0.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        view: what the points are, see `kdlosses.relation.points`; `flat` is that of the paper on images.
        draw: number of points to draw at random in each call; all if not given.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node.

    Paper: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019. Factor 1; weight 3000.

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> sp(f, 3 * f).item(), sp(f, torch.ones(2, 1)).item()  # rows (1, 0) against (1, 1): 2 (1 - 1 / sqrt(2)) 2 / 4
    (0.0, 0.2928...)
    """
    student, teacher, weight = points(student, teacher, weight, batch, view, draw)
    square_s, square_t = _products(student, student, weight), _products(teacher, teacher, weight)
    zero = (square_s <= 0) | (square_t <= 0)
    norms = square_s.masked_fill(zero, 1).sqrt() * square_t.masked_fill(zero, 1).sqrt()
    cosine = _products(student, teacher, weight).masked_fill(zero, 0) / norms
    lengths = (square_s > 0).to(cosine.dtype) + (square_t > 0).to(cosine.dtype)
    n = weight.sum(1)
    return weighted_mean((weight * (lengths - 2 * cosine)).sum(1) / n.square().masked_fill(n == 0, 1), n > 0)


def _products(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Inner product of row i of A A' with row i of B B', `(sets, n)`: $a_i' A' B b_i$."""
    if weight.shape[1] < max(a.shape[2], b.shape[2]):
        return ((a @ a.mT) * (b @ b.mT) @ weight.unsqueeze(2)).squeeze(2)
    return (a @ (a.mT @ (weight.unsqueeze(2) * b)) * b).sum(2)
