from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register
def nkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    gamma: float = 1.5,
    tau: float = 1.0,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Normalised distillation: the target class, and the other classes renormalised among themselves.

    With $y$ the label, $p, q$ the softmax at temperature 1, and $\hat p, \hat q$ the softmax at $\tau$ over all classes
    but $y$,

    $$ l_i = - p_y \log q_y - \gamma \tau^2 \sum_{c \ne y} \hat p_c \log \hat q_c, \qquad
       L = \sum_i w_i l_i / \sum_i w_i. $$

    Use it beside the usual cross-entropy with the labels. It is not 0 for a perfect student, nor is its gradient: the
    target term goes on pushing $q_y$ to 1.

    Args:
        student: logits `(N, C, *)`, C of at least 2.
        teacher: logits `(N, C, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        gamma: weight of the non-target term (paper: 1.5 with tau 1 on ImageNet, 3.5 with tau 3 on CIFAR).
        tau: temperature of the non-target term.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
    Loss and Customized Soft Labels", ICCV 2023. Their reduction is this one: factor 1.

    >>> import torch
    >>> nkd(torch.zeros(1, 3), torch.zeros(1, 3), labels=torch.tensor([0])).item()  # log(3) / 3 + 1.5 log(2)
    1.4059...
    """
    labels, weight = labelled(labels, weight, ignore_index, student.shape[1])
    y = labels.unsqueeze(1)
    log_q, p = F.log_softmax(student, dim=1).gather(1, y), F.softmax(teacher, dim=1).gather(1, y)
    target = -(p * log_q).squeeze(1)

    none = torch.finfo(student.dtype).min / 4  # finite: the label's share is 0, and 0 times this is 0
    log_q_hat = F.log_softmax((student / tau).scatter_(1, y, none), dim=1)
    p_hat = F.softmax((teacher / tau).scatter_(1, y, none), dim=1)
    others = -(p_hat * log_q_hat).sum(1)
    return weighted_mean(target + gamma * tau**2 * others, weight)
