from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.rkl import rkl
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def skew_rkl(
    student: Tensor, teacher: Tensor, lam: float = 0.1, tau: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""Skewed reverse divergence: from the student to a mixture of teacher and student.

    $$ l_i = \tau^2 \, \mathrm{KL}\big(q_i \,\|\, (1 - \lambda) p_i + \lambda q_i\big),
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    in nats, with $p, q$ the softmax of $z^t / \tau, z^s / \tau$; at most $-\tau^2 \log \lambda$. Without
    skew, $\lambda = 0$, it is `rkl`.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        lam: share of the student in the mixture, from 0 to below 1 (there it is 0 everywhere).
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: lam is out of range.

    Paper: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024. A mean over
    positions: factor 1.

    >>> import torch
    >>> s, t = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    >>> skew_rkl(s, t).item()  # no overlap: -log(0.1)
    2.3025...
    """
    if not 0 <= lam < 1:
        raise ValueError(f"skew_rkl: lam must be from 0 to below 1, got {lam!r}")
    if lam == 0:
        return rkl(student, teacher, tau=tau, weight=weight)
    log_p = F.log_softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    # log(q / m) = -log(lam) - softplus(x): bounded on its face, and m is never laid out
    x = log_p - log_q - math.log(lam / (1 - lam))
    return tau**2 * weighted_mean(-math.log(lam) - (log_q.exp() * F.softplus(x)).sum(1), weight)
