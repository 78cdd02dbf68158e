from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def jeffreys(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Jeffreys divergence: forward plus reverse Kullback-Leibler divergence, symmetric.

    $$ l_i = \tau^2 \big( \mathrm{KL}(p_i \| q_i) + \mathrm{KL}(q_i \| p_i) \big)
           = \tau^2 \sum_c (p_{ic} - q_{ic}) \log \frac{p_{ic}}{q_{ic}}, \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    in nats, with $p, q$ the softmax of $z^t / \tau, z^s / \tau$.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Paper: Jeffreys, "An invariant form for the prior probability in estimation problems", 1946. It is the sum of the
    two directions: factor 1; code that takes their mean, 1 / 2.

    >>> import torch
    >>> jeffreys(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0986]])).item()  # log(3) / 4
    0.2746...
    """
    log_p = F.log_softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    return tau**2 * weighted_mean(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1), weight)
