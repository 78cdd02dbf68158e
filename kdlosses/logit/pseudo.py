from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(most={"threshold": 1})
def pseudo(student: Tensor, teacher: Tensor, threshold: float = 0.0, weight: Tensor | None = None) -> Tensor:
    r"""Pseudo labels: cross-entropy with the teacher's top class, where its confidence is high enough.

    With $\hat y_i = \arg\max_c z^t_{ic}$ and $p = \mathrm{softmax}(z)$,

    $$ L = -\mathrm{mean}_{i : \max_c p^t_{ic} \ge \theta} \, \log p^s_{i \hat y_i}. $$

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        threshold: least confidence $\theta$ that counts; 0 for all.
        weight: `(N, *)`, positions to count.

    Paper: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013;
    between two networks, both ways and for all positions: Chen et al., "Semi-Supervised Semantic Segmentation with
    Cross Pseudo Supervision", CVPR 2021. Factor 1.

    >>> import torch
    >>> round(pseudo(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]])).item(), 4)  # log 2
    0.6931
    """
    sure = F.softmax(teacher, dim=1).amax(1)
    each = F.cross_entropy(student, teacher.argmax(1), reduction="none") + (sure - sure)  # a NaN has no class: it stays
    counted = ~(sure < threshold)
    return weighted_mean(each, counted if weight is None else counted * weight)
