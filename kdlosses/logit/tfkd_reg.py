from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.smoothed import smoothed_cross_entropy
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register(match="samples")
def tfkd_reg(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    confidence: float = 0.99,
    tau: float = 20.0,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Divergence from a virtual teacher that is always correct, softened by a high temperature.

    $$ l_i = \mathrm{KL}\big(\mathrm{softmax}(u_i / \tau) \,\|\, \mathrm{softmax}(z^s_i)\big), \quad
       u_{iy} = a, \; u_{ic} = \tfrac{1 - a}{C - 1} \; (c \ne y), \qquad L = \sum_i w_i l_i / \sum_i w_i. $$

    As in the authors' code the softmax is taken of probabilities, which makes the target all but uniform, the student
    has no temperature, and there is no factor $\tau^2$. Used beside the cross-entropy with the labels.

    Args:
        student: logits `(N, C, *)`, C of at least 2.
        teacher: any tensor with as many samples; nothing is read from it.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        confidence: $a$, what the virtual teacher gives to the label.
        tau: temperature of the virtual teacher.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020. Their mean
    over all elements: factor 1 / C. Their sum is (1 - alpha) of cross-entropy plus alpha m of this loss, m up to 1000.

    >>> import torch
    >>> z = torch.zeros(1, 4)
    >>> tfkd_reg(z, z, labels=torch.tensor([1])).item() < 1e-3  # a uniform student is all but right
    True
    """
    labels, weight = labelled(labels, weight, ignore_index, student.shape[1])
    log_q = F.log_softmax(student, dim=1)
    others = max(student.shape[1] - 1, 1)
    p = 1 / (1 + others * math.exp(((1 - confidence) / others - confidence) / tau))
    entropy = -p * math.log(p) - (1 - p) * math.log((1 - p) / others)
    return weighted_mean(smoothed_cross_entropy(log_q, labels, p) - entropy, weight)
