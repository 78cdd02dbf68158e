from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(categorical=False)
def dhkd(student: Tensor, teacher: Tensor, tau: float = 2.0, weight: Tensor | None = None) -> Tensor:
    r"""Dual-head distillation: match the logits, scale included, on a second head, apart from the classifier.

    $$ l_i = \tau^2 \sum_c \mathrm{KL}\big((\tfrac12, \tfrac12) \,\|\, (\sigma_{ic}, 1 - \sigma_{ic})\big)
           = \tau^2 \sum_c \log \cosh \frac{d_{ic}}{2 \tau}, \quad \sigma = \mathrm{sigmoid}(d / \tau), \;
       d = z^s - z^t, \qquad L = \sum_i w_i l_i / \sum_i w_i. $$

    Small differences cost $d^2 / 8$, large ones $\tau |d| / 2$. It is 0 only where the logits are equal: a shift of all
    the classes counts, unlike under `kl`. The student's logits are those of the second head, on the same features as
    the first, which learns from the labels and alone is deployed. The authors also take from the gradient of this
    loss on the backbone what opposes that of the cross-entropy: a matter of the training step, not of the loss.

    Args:
        student: logits `(N, C, *)` of the second head.
        teacher: logits `(N, C, *)`.
        tau: temperature (paper: 2 on CIFAR).
        weight: `(N, *)`, positions to count.

    Paper: Yang et al., "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head", 2024.
    Sum over classes, mean over the batch: factor 1; against the mean over classes, C.

    >>> import torch
    >>> dhkd(torch.tensor([[0.4, 0.0]]), torch.tensor([[0.0, 0.0]])).item()  # about 0.4^2 / 8
    0.0199...
    """
    x = (student - teacher) / (2 * tau)
    return tau**2 * weighted_mean((x + F.softplus(-2 * x) - math.log(2)).sum(1), weight)  # log cosh without overflow
