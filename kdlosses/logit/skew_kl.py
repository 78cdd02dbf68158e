from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.kl import kl
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def skew_kl(
    student: Tensor, teacher: Tensor, lam: float = 0.1, tau: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""Skewed forward divergence: from the teacher to a mixture of student and teacher.

    $$ l_i = \tau^2 \, \mathrm{KL}\big(p_i \,\|\, \lambda p_i + (1 - \lambda) q_i\big),
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    in nats, with $p, q$ the softmax of $z^t / \tau, z^s / \tau$; at most $-\tau^2 \log \lambda$: a class which the
    student all but excludes cannot run away with the gradient. Without skew, $\lambda = 0$, it is `kl`.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        lam: share of the teacher in the mixture, from 0 to below 1 (there it is 0 everywhere).
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: lam is out of range.

    Paper: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024. A mean over
    positions: factor 1.

    >>> import torch
    >>> s, t = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    >>> skew_kl(s, t).item()  # no overlap: -log(0.1)
    2.3025...
    """
    if not 0 <= lam < 1:
        raise ValueError(f"skew_kl: lam must be from 0 to below 1, got {lam!r}")
    if lam == 0:
        return kl(student, teacher, tau=tau, weight=weight)
    log_p = F.log_softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    # log(p / m) = -log(lam) - softplus(x): bounded on its face, and m is never laid out
    x = log_q - log_p - math.log(lam / (1 - lam))
    return tau**2 * weighted_mean(-math.log(lam) - (log_p.exp() * F.softplus(x)).sum(1), weight)
