from __future__ import annotations

from torch import Tensor

from kdlosses.logit.kl import kl
from kdlosses.registry import register


@register
def kd(student: Tensor, teacher: Tensor, tau: float = 4.0, weight: Tensor | None = None) -> Tensor:
    r"""`kl` at the customary temperature of image classification: the baseline of all the others.

    $$ L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \, \mathrm{KL}(p_i \,\|\, q_i), \quad
       p = \mathrm{softmax}(z^t / \tau), \; q = \mathrm{softmax}(z^s / \tau) $$

    Used beside the cross-entropy with the labels. For $\tau \to \infty$ it is half the mean square of the differences
    of the centred logits.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature (customary: 4 with weight 0.9 against 0.1 of cross-entropy on CIFAR, 1 with 0.5 against 0.5 on
            ImageNet).
        weight: `(N, *)`, positions to count.

    Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015. Weights of other code times this
    factor are weights here: mean over positions, 1; `batchmean` on maps, H W; the mean over all elements, 1 / C.

    >>> import torch
    >>> kd(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 4.3944]])).item()  # 16 KL((1/4, 3/4) || (1/2, 1/2))
    2.0929...
    """
    return kl(student, teacher, tau=tau, weight=weight)
