from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(most={"alpha": 1})
def sce(student: Tensor, teacher: Tensor, alpha: float = 0.5, weight: Tensor | None = None) -> Tensor:
    r"""Symmetric cross-entropy, with smaller gradients where the student is confidently wrong, for unreliable teachers.

    $$ l_i = -(1 - \alpha) \sum_c p_{ic} \log q_{ic} - \alpha \sum_c q_{ic} \log p_{ic},
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $p, q$ the softmax of $z^t, z^s$. At $\alpha = 1/2$ it is half of $H(p) + H(q)$ plus half of `jeffreys`. Where
    student and teacher agree it is $H(p)$, and its gradient is not 0: the entropy of the student goes on falling. (The
    loss of this name for noisy labels is another one: it clips the logarithm of a one-hot label.)

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`, in the paper those of the student's moving average.
        alpha: share of the reverse term, from 0, which is the plain cross-entropy, to 1.
        weight: `(N, *)`, positions to count.

    Paper: Doebler et al., "Robust Mean Teacher for Continual and Gradual Test-Time Adaptation", CVPR 2023. Factor 1.

    >>> s, t = torch.zeros(1, 2), torch.tensor([[0.0, 1.0986]])  # (1/2, 1/2) and (1/4, 3/4)
    >>> sce(s, t).item()  # (log(2) + log(16 / 3) / 2) / 2
    0.7650...
    """
    log_q = F.log_softmax(student, dim=1)
    with torch.no_grad():  # dq = q dlog(q): the reverse term pulls at log(q) by q log(p), and its value is added after
        log_p = F.log_softmax(teacher, dim=1)
        reverse = log_q.exp().mul_(log_p).mul_(alpha)
        pull = log_p.exp_().mul_(1 - alpha).add_(reverse)
        rest = reverse.mul_(log_q - 1).sum(1)
    return -weighted_mean((pull * log_q).sum(1) - rest, weight)
