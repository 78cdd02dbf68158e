from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses import register, weighted_mean


@register(categorical=True)
def ffg2m_high(
    student: Tensor, teacher: Tensor, edge_index: Tensor, tau: float = 1.3, weight: Tensor | None = None
) -> Tensor:
    r"""High-frequency loss of FF-G2M: match the differences across edges.

    $$ L = \frac{1}{|E^-|} \sum_{(i, j) \in E^-} \mathrm{KL}\bigl(\mathrm{softmax}(|z^t_i - z^t_j| / \tau) \,\|\,
       \mathrm{softmax}(|z^s_i - z^s_j| / \tau)\bigr) $$

    in nats; $E^-$ is `edge_index` without self-loops. 0 without edges. Unchanged when the ends of edges are swapped,
    or when one vector is added to every node. Where two nodes have the same logits the absolute value passes no
    gradient.

    Args:
        student: logits `(N, C)`.
        teacher: logits `(N, C)`.
        edge_index: `(2, E)`; a uniform sample of the edges gives an unbiased estimate.
        tau: temperature; no factor $\tau^2$, as in the paper.
        weight: `(N,)`, nodes to count; an edge counts as the product of its ends.

    Paper: Wu et al., "Extracting Low-/High-Frequency Knowledge from Graph Neural Networks and Injecting it into MLPs",
    2023, the high-frequency distillation loss; its mean over edges is the mean here (factor 1).

    >>> import torch
    >>> teacher = torch.tensor([[0.0, 0.0], [0.0, 1.0986]])  # the ends differ by (0, ln 3)
    >>> ffg2m_high(torch.zeros(2, 2), teacher, edge_index=torch.tensor([[0, 1], [1, 0]]), tau=1.0).item()
    0.1308...
    """
    source, target = edge_index
    counted = source != target  # a weight and no selection: shapes that depend on the data would break a compiled graph
    log_p = F.log_softmax((teacher[source] - teacher[target]).abs() / tau, dim=1)
    log_q = F.log_softmax((student[source] - student[target]).abs() / tau, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return weighted_mean(divergence, counted if weight is None else counted * weight[source] * weight[target])
