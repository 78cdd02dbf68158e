from __future__ import annotations

import torch
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import View, points
from kdlosses.unit import unit


@register(match="positions", categorical=True, most={"eps": 0.01})
def pkt(
    student: Tensor,
    teacher: Tensor,
    eps: float = 1e-7,
    self_pairs: bool = True,
    view: View = "batch",
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Probabilistic knowledge transfer: match the neighbour probabilities among points.

    With $S_{ij} = (1 + \cos(f_i, f_j)) / 2$ and $P_{ij} = S_{ij} / \sum_k S_{ik}$,

    $$ L = \frac1n \sum_i \sum_j P^t_{ij} \log \frac{P^t_{ij}}{P^s_{ij}} \;\ge 0 $$

    in nats. Scaling a point of either side changes nothing, a translation does. Pairs are held in blocks.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        eps: least $S_{ij}$.
        self_pairs: count a point as its own neighbour, which is what the authors' code does; the paper does not.
        view: what the points are, see `kdlosses.relation.points`.
        draw: number of points to draw at random in each call; all if not given.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node.

    Paper: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018. Factor
    1 / n against the mean over all n^2 pairs, whose usual weight is 30000.

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(pkt(f, torch.ones(2, 1)).item(), 4)  # KL((1/2, 1/2) || (2/3, 1/3))
    0.0589
    """
    student, teacher, weight = points(student, teacher, weight, batch, view, draw)
    student, teacher = unit(student, dim=2), unit(teacher, dim=2)
    column = weight.unsqueeze(2)

    def divergence(rows_s: Tensor, rows_t: Tensor) -> Tensor:
        s, t = _similarity(rows_s, student, eps), _similarity(rows_t, teacher, eps)
        sum_s, sum_t, cross = s @ column, t @ column, (t * (t / s).log()) @ column
        if not self_pairs:
            own_s, own_t = (_similarity(x.unsqueeze(2), x.unsqueeze(2), eps)[..., 0] for x in (rows_s, rows_t))
            sum_s, sum_t, cross = sum_s - own_s, sum_t - own_t, cross - own_t * (own_t / own_s).log()
        tiny = torch.finfo(s.dtype).tiny
        return (cross / sum_t.clamp_min(tiny) + (sum_s.clamp_min(tiny) / sum_t.clamp_min(tiny)).log()).squeeze(2)

    return weighted_mean(by_rows(divergence, student, teacher, columns=weight.shape[1]), weight)


def _similarity(a: Tensor, b: Tensor, eps: float) -> Tensor:
    return (0.5 + 0.5 * (a @ b.mT)).clamp_min(eps)
