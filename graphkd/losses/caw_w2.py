from __future__ import annotations

import torch
from torch import Tensor

from graphkd.sparse.edges import with_self_loops
from kdlosses import register, weighted_mean


@register
def caw_w2(
    student: Tensor, teacher: Tensor, edge_index: Tensor, eps: float = 1e-6, weight: Tensor | None = None
) -> Tensor:
    r"""2-Wasserstein distance of student and teacher neighbourhoods, each as a Gaussian with diagonal covariance.

    $$ L = \frac{1}{\sum_v a_v} \sum_v a_v \left( \| m^t_v - m^s_v \|^2
         + \bigl\| \sqrt{\sigma^t_v + \epsilon} - \sqrt{\sigma^s_v + \epsilon} \bigr\|^2 \right) $$

    with the mean m and the variance $\sigma$ of each channel over v and its neighbours. Without edges only the means
    are left, which are the nodes themselves: the squared distance.

    Args:
        student: features or logits `(N, C)`.
        teacher: likewise.
        edge_index: `(2, E)`, source above target; for an undirected graph both directions. Self-loops do not count, an
            edge that stands there twice counts twice.
        eps: $\epsilon$, in the units of a variance; keeps the gradient finite where a neighbourhood does not vary.
        weight: a `(N,)`; a node with weight 0 is in no neighbourhood either.

    Paper: curvature-aware G2MLP, 2026, which takes the mean over nodes of weights that it leaves unscaled; here they
    have mean 1 (own form).

    >>> z = torch.tensor([[0.0], [2.0]])  # mean 1 and variance 1 around both nodes
    >>> caw_w2(torch.zeros(2, 1), z, edge_index=torch.tensor([[0, 1], [1, 0]]), eps=0.0).item()
    2.0
    """
    source, target = with_self_loops(edge_index, len(student))
    counted = None if weight is None else weight[source] > 0
    mine, theirs = (moments(z, source, target, len(z), counted) for z in (student, teacher))
    return weighted_mean(w2_diag(mine, theirs, eps), weight)


def moments(
    values: Tensor, source: Tensor, target: Tensor, groups: int, counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance `(groups, C)` of the rows `source` of `values` that go into each group `target`; 0 of none."""
    rows = values[source]
    share = rows.new_ones(len(rows), 1) if counted is None else counted.to(rows.dtype).unsqueeze(1)
    size = rows.new_zeros(groups, 1).index_add(0, target, share).clamp_min(1)
    mean = torch.zeros_like(rows[:1]).expand(groups, -1).index_add(0, target, rows * share) / size
    apart = (rows - mean[target]).square() * share
    return mean, torch.zeros_like(mean).index_add(0, target, apart) / size


def w2_diag(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], eps: float) -> Tensor:
    """Squared 2-Wasserstein distance of two Gaussians with diagonal covariances, group by group."""
    mean, deviation = student[0] - teacher[0], (student[1] + eps).sqrt() - (teacher[1] + eps).sqrt()
    return mean.square().sum(1) + deviation.square().sum(1)
