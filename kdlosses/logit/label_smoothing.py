from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.smoothed import smoothed_cross_entropy
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register(match="samples")
def label_smoothing(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    smoothing: float = 0.1,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy with smoothed labels: the control for a teacher's soft labels.

    $$ l_i = -\sum_c u_{ic} \log q_{ic}, \quad u_{iy} = 1 - \epsilon, \; u_{ic} = \tfrac{\epsilon}{C - 1} \; (c \ne y),
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $q = \mathrm{softmax}(z^s)$; least where $q = u$. There is no teacher in it.

    Args:
        student: logits `(N, C, *)`, C of at least 2.
        teacher: any tensor with as many samples; nothing is read from it.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        smoothing: $\epsilon$, the probability that leaves the label; 0 is plain cross-entropy. The $\epsilon'$ of code
            that spreads it over all classes, the label included, is $\epsilon = \epsilon' (C - 1) / C$ here.
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016; as a teacher made by
    hand: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020. Factor 1.

    >>> import torch
    >>> z = torch.tensor([[0.9, 0.05, 0.05]]).log()  # the optimal student: the entropy is left
    >>> label_smoothing(z, z, labels=torch.tensor([0])).item()
    0.3943...
    """
    labels, weight = labelled(labels, weight, ignore_index, student.shape[1])
    return weighted_mean(smoothed_cross_entropy(F.log_softmax(student, dim=1), labels, 1 - smoothing), weight)
