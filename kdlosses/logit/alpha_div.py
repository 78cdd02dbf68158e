from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.kl import kl
from kdlosses.logit.rkl import rkl
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(least={"alpha": -math.inf})
def alpha_div(
    student: Tensor, teacher: Tensor, alpha: float = 0.5, tau: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""Alpha divergence: interpolates between the reverse and the forward Kullback-Leibler divergence.

    $$ l_i = \frac{\tau^2}{\alpha (\alpha - 1)} \Big( \sum_c p_{ic}^\alpha q_{ic}^{1 - \alpha} - 1 \Big),
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $p, q$ the softmax of $z^t / \tau, z^s / \tau$. $\alpha \to 1$ is `kl`, $\alpha \to 0$ is `rkl` (both are taken
    exactly), and $\alpha = 1/2$ is $4 (1 - \sum_c \sqrt{p_c q_c})$, symmetric and at most 4.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        alpha: 0 to 1 between the two directions; other values are divergences too, but unbounded.
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Paper: Amari, "Differential-Geometrical Methods in Statistics", 1985. A mean over positions: factor 1.

    >>> import torch
    >>> s, t = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    >>> alpha_div(s, t).item()  # no overlap
    4.0
    """
    if alpha == 1:
        return kl(student, teacher, tau=tau, weight=weight)
    if alpha == 0:
        return rkl(student, teacher, tau=tau, weight=weight)
    log_p = F.log_softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    overlap = torch.lerp(log_q, log_p, alpha).exp().sum(1)
    return tau**2 / (alpha * (alpha - 1)) * weighted_mean(overlap - 1, weight)
