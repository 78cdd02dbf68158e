from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def tvd(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Total variation distance of the two distributions.

    $$ L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \, \frac12 \sum_c |p_{ic} - q_{ic}|, \quad
       p = \mathrm{softmax}(z^t / \tau), \; q = \mathrm{softmax}(z^s / \tau) $$

    At $\tau = 1$ it is in [0, 1], symmetric, and at most $\sqrt{\mathrm{KL}(p \| q) / 2}$ (Pinsker).

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Paper: Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023. A mean over
    positions: factor 1.

    >>> import torch
    >>> round(tvd(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0986]])).item(), 4)  # (1/2, 1/2) and (1/4, 3/4)
    0.25
    """
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    return tau**2 / 2 * weighted_mean((p - q).abs().sum(1), weight)
