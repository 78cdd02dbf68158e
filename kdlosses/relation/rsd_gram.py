from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.points import View, points


@register(match="positions")
def rsd_gram(
    student: Tensor,
    teacher: Tensor,
    view: View = "batch",
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Relational similarity: match the inner products between points as they are.

    With points $S$ (n, C_s) and $T$ (n, C_t),

    $$ L = \frac{1}{n^2} \|S S' - T T'\|_F^2
         = \frac{1}{2 n^2} \big( \langle A'A, B'B \rangle + \langle A'B, B'A \rangle \big), \quad
       A = S + T, \; B = S - T, $$

    where the narrower side has columns of zeros added, which change no product. So no n x n matrix is held unless it
    is the smaller one, and nothing is lost to rounding where student and teacher are close. A rotation of either side
    changes nothing, a scale or a translation does.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        view: what the points are, see `kdlosses.relation.points`.
        draw: number of points to draw at random in each call; all if not given.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node.

    Paper: Tian et al., "Learning MLPs on Graphs: A Unified View of Effectiveness, Robustness, and Efficiency", ICLR
    2023, the representational similarity distillation; its mean over all pairs of a batch is the mean here (factor 1).

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> rsd_gram(f, f.flip(1)).item(), rsd_gram(f, 2 * f).item()  # rotated; (1 - 4)^2 on two of four pairs
    (0.0, 4.5)
    """
    student, teacher, weight = points(student, teacher, weight, batch, view, draw)
    n, width = weight.sum(1), max(student.shape[2], teacher.shape[2])
    root = weight.sqrt().unsqueeze(2)
    s, t = (F.pad(x * root, (0, width - x.shape[2])) for x in (student, teacher))
    a, b = s + t, s - t
    if weight.shape[1] < width:
        product = a @ b.mT
        total = (product + product.mT).square().sum((1, 2)) / 4
    else:
        product = a.mT @ b
        total = ((a.mT @ a) * (b.mT @ b) + product * product.mT).sum((1, 2)) / 2
    return weighted_mean(total / n.square().masked_fill(n == 0, 1), n > 0)
