from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import by_sample, weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows
from kdlosses.relation.points import points
from kdlosses.unit import unit


@register(match="positions", categorical=True)
def trg(
    student: Tensor,
    teacher: Tensor,
    tau: float = 0.1,
    k: int = 16,
    context: float = 1.0,
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Token relationship graph: match a token's similarities to its nearest tokens and to its instance's mean.

    Let $\mathcal N_i$ be the k tokens nearest to i by the teacher's cosine, within and across the instances of the
    batch, $A_i = \mathrm{softmax}_{j \in \mathcal N_i}(\cos_{ij} / \tau)$, and for each instance m, with mean token
    $\bar f_m$, $B_m = \mathrm{softmax}_{i \in m}(\cos(f_i, \bar f_m) / \tau)$. Then

    $$ L = \mathrm{mean}_i \, \mathrm{KL}(A^t_i \,\|\, A^s_i)
         + \lambda \, \mathrm{mean}_m \, \mathrm{KL}(B^t_m \,\|\, B^s_m). $$

    Rotation and scale of either side change nothing, nor need the channels agree. A map is an instance, and so is a
    graph. Pairs are held in blocks.

    Args:
        student: tokens `(N, C_s, *)`.
        teacher: tokens `(N, C_t, *)`.
        tau: temperature.
        k: neighbours of a token; all others if there are fewer.
        context: $\lambda$.
        draw: number of tokens to draw at random in each call for the graph; all if not given.
        weight: `(N, *)`, tokens to count; weights enter the means, and those of weight 0 are no neighbours.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.

    Paper: Zhang et al., "Knowledge Distillation via Token-level Relationship Graph", 2023, for the idea: relations of
    tokens within and across instances, and a contextual loss inside an instance. The formulas are our own; the
    contrastive term between tokens at the same place is `infonce`, as an entry of its own.

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(trg(f, 3 * f.flip(1)).item(), 6)
    0.0
    """
    return _graph(student, teacher, weight, tau, k, draw) + context * _context(student, teacher, weight, batch, tau)


def _graph(student: Tensor, teacher: Tensor, weight: Tensor | None, tau: float, k: int, draw: int | None) -> Tensor:
    student, teacher, weight = points(student, teacher, weight, draw=draw)
    student, teacher = unit(student, dim=2), unit(teacher, dim=2)
    n = weight.shape[1]
    index, absent = torch.arange(n, device=student.device).unsqueeze(0), (weight == 0).unsqueeze(1)
    floor = torch.finfo(student.dtype).min / 4  # finite, so that a token without neighbours has no nan

    def divergence(rows_s: Tensor, rows_t: Tensor, rows: Tensor) -> Tensor:
        near = (rows_t / tau @ teacher.mT).masked_fill(absent | (rows.unsqueeze(2) == index.unsqueeze(1)), floor)
        near, neighbours = near.topk(min(k, n - 1), dim=2)
        none = near == floor
        log_p = near.log_softmax(2)
        log_q = (rows_s / tau @ student.mT).gather(2, neighbours).masked_fill(none, floor).log_softmax(2)
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).masked_fill(none, 0).sum(2)

    return weighted_mean(by_rows(divergence, student, teacher, index, columns=n), weight)


def _context(student: Tensor, teacher: Tensor, weight: Tensor | None, batch: Tensor | None, tau: float) -> Tensor:
    if weight is not None:
        student, teacher = (x.masked_fill((weight == 0).unsqueeze(1), 0) for x in (student, teacher))
    student, teacher, weight = by_sample(student, teacher, weight, batch)
    weight = student.new_ones(student.shape[0], student.shape[2]) if weight is None else weight.to(student.dtype)
    log_w = weight.log().clamp_min(torch.finfo(student.dtype).min / 4)

    def log_share(tokens: Tensor) -> Tensor:
        mean = unit((tokens * weight.unsqueeze(1)).sum(2, keepdim=True), dim=1)
        return ((unit(tokens, dim=1) * mean).sum(1) / tau + log_w).log_softmax(1)

    divergence = F.kl_div(log_share(student), log_share(teacher), reduction="none", log_target=True).sum(1)
    return weighted_mean(divergence, (weight > 0).any(1))
