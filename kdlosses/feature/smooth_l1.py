from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def smooth_l1(student: Tensor, teacher: Tensor, beta: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Squares of small differences, absolute values of large ones: for numbers such as the offsets of boxes.

    $$ L = \sum_i w_i \frac1C \sum_c h(f^s_{ic} - f^t_{ic}) \Big/ \sum_i w_i, \qquad
       h(d) = \begin{cases} d^2 / 2 \beta & |d| < \beta \\ |d| - \beta / 2 & \text{else.} \end{cases} $$

    Args:
        student: numbers `(N, C, *)`.
        teacher: numbers `(N, C, *)`.
        beta: where the loss turns from square to linear.
        weight: `(N, *)`, positions to count.

    Paper: Girshick, "Fast R-CNN", ICCV 2015, for the loss. Weights of other code times this factor are weights here:
    sum over channels, C; mean over all elements, 1.

    >>> import torch
    >>> smooth_l1(torch.tensor([[0.5, 3.0]]), torch.tensor([[0.0, 0.0]])).item()  # (1 / 8 + 5 / 2) / 2
    1.3125
    """
    if beta <= 0:
        raise ValueError(f"smooth_l1: beta must be positive, got {beta}")
    if weight is None:
        return F.smooth_l1_loss(student, teacher, beta=beta)  # the same in one fused pass
    return weighted_mean(F.smooth_l1_loss(student, teacher, reduction="none", beta=beta).mean(1), weight)
