from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import centred, weighted_mean
from kdlosses.registry import register


@register
def dist(
    student: Tensor,
    teacher: Tensor,
    tau: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    eps: float = 1e-8,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Pearson correlation of predictions, over classes (inter) and over positions (intra).

    With $r$ the Pearson correlation of probabilities $q, p = \mathrm{softmax}(z / \tau)$ of student and teacher,

    $$ L = \tau^2 \Big( \beta \, \mathrm{mean}_i \big[1 - r(q_{i\cdot}, p_{i\cdot})\big]
         + \gamma \, \mathrm{mean}_c \big[1 - r(q_{\cdot c}, p_{\cdot c})\big] \Big), $$

    in $[0, 2 \tau^2 (\beta + \gamma)]$. It matches the shape of the predictions, not their values, which leaves a
    student room under a much stronger teacher. The second term couples the positions of the batch (on this device);
    weights enter its means and sums. A constant row or column counts as uncorrelated: 1.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature (paper: 1 on ImageNet and in segmentation, 4 on CIFAR).
        beta: weight of the inter-class term.
        gamma: weight of the intra-class term.
        eps: added to the denominator of $r$.
        weight: `(N, *)`, positions to count.

    Paper: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022. Factor 1.

    >>> import torch
    >>> z = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
    >>> round(dist(z, z).item(), 4), round(dist(z, -z, gamma=0.0).item(), 2)
    (0.0, 1.84)
    """
    q, p = F.softmax(student / tau, dim=1), F.softmax(teacher / tau, dim=1)
    positions = (0, *range(2, q.ndim))
    inter = weighted_mean((1 - _pearson(q, p, None, (1,), eps)).squeeze(1), weight)
    intra = (1 - _pearson(q, p, weight, positions, eps)).mean()
    if weight is not None:
        intra = intra * weight.any()  # an empty selection correlates with nothing, which is no error of the student
    return tau**2 * (beta * inter + gamma * intra)


def _pearson(a: Tensor, b: Tensor, weight: Tensor | None, axes: tuple[int, ...], eps: float) -> Tensor:
    a, a_norm, _ = centred(a, weight, axes)
    b, b_norm, _ = centred(b, weight, axes)
    return (a * b).sum(axes, keepdim=True) / (a_norm * b_norm + eps)
