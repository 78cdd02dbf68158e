from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def js(student: Tensor, teacher: Tensor, beta: float = 0.1, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Generalised Jensen-Shannon divergence, bounded even where the two distributions do not overlap.

    $$ l_i = \tau^2 \big( \beta \, \mathrm{KL}(p_i \| m_i) + (1 - \beta) \, \mathrm{KL}(q_i \| m_i) \big), \quad
       m = \beta p + (1 - \beta) q, \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    in nats, with $p, q$ the softmax of $z^t / \tau, z^s / \tau$. With $\beta = 1/2$ it is the textbook divergence (see
    `ssld`): symmetric and at most $\log 2$.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        beta: share of the teacher in the mixture, above 0 and below 1 (there it is 0 everywhere).
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: beta is not between 0 and 1.

    Paper: Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", ICLR
    2024; the default of 0.1 is that of Shing et al., "TAID", ICLR 2025. A mean over positions: factor 1.

    >>> import torch
    >>> js(torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]]), beta=0.5).item()  # no overlap: log(2)
    0.6931...
    """
    if not 0 < beta < 1:
        raise ValueError(f"js: beta must be above 0 and below 1, got {beta!r}")
    log_p = F.log_softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    # the information that a class drawn from m holds about who drew it: the entropy of the share, less what is left of
    # it when the class is known; log(p / m) = -log(beta) - softplus(x)
    x = log_q - log_p - math.log(beta / (1 - beta))
    surprise = F.softplus(x)
    left = beta * (log_p.exp_() * surprise).sum(1)
    surprise = surprise - x  # softplus(-x): what it is to the student
    left = left + (1 - beta) * (log_q.exp() * surprise).sum(1)
    share = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    return tau**2 * weighted_mean(share - left, weight)
