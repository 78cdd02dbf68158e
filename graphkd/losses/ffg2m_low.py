from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphkd.sparse.edges import with_self_loops
from kdlosses import register, weighted_mean


@register(categorical=True)
def ffg2m_low(student: Tensor, teacher: Tensor, edge_index: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Low-frequency loss of FF-G2M: match the teacher's predictions for a node and for its neighbours.

    $$ L = \frac{1}{|E^+|} \sum_{(j \to i) \in E^+} \mathrm{KL}(p^t_j \,\|\, p^s_i), \quad p = \mathrm{softmax}(z) $$

    in nats; $E^+$ is `edge_index` without its self-loops and with one for every node, so that without edges this is
    `kl`. Its minimum over the student is the mean of the teacher over a neighbourhood; a perfect copy of the teacher is
    no minimum, and the loss is not 0 there.

    Args:
        student: logits `(N, C)`.
        teacher: logits `(N, C)`.
        edge_index: `(2, E)`, source j above target i; for an undirected graph both directions.
        weight: `(N,)`, nodes to count; an edge counts as the product of its ends.

    Paper: Wu et al., "Extracting Low-/High-Frequency Knowledge from Graph Neural Networks and Injecting it into MLPs",
    2023, the low-frequency distillation loss with temperature 1; its mean over edges is the mean here (factor 1).

    >>> z = torch.tensor([[0.0, 0.0], [0.0, 1.0986]])  # (1/2, 1/2) and (1/4, 3/4)
    >>> ffg2m_low(z, z, edge_index=torch.tensor([[0, 1], [1, 0]])).item()  # (0 + 0 + 0.1438 + 0.1308) / 4
    0.0686...
    """
    source, target = with_self_loops(edge_index, len(student))
    log_p, log_q = F.log_softmax(teacher, dim=1)[source], F.log_softmax(student, dim=1)[target]
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return weighted_mean(divergence, None if weight is None else _edge_weight(weight.to(student.dtype), source, target))


def _edge_weight(weight: Tensor, source: Tensor, target: Tensor) -> Tensor:
    return torch.where(source == target, weight[source], weight[source] * weight[target])
