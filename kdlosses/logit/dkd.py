from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register
def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    tau: float = 4.0,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Decoupled distillation: separate weights for the target class's probability and for the other classes.

    With $y$ the label, $p, q$ the softmax of $z^t / \tau, z^s / \tau$, and $\hat p, \hat q$ the same renormalised over
    all classes but $y$,

    $$ l_i = \tau^2 \Big( \alpha \, \mathrm{KL}\big((p_y, 1 - p_y) \,\|\, (q_y, 1 - q_y)\big)
         + \beta \, \mathrm{KL}(\hat p \,\|\, \hat q) \Big), \qquad L = \sum_i w_i l_i / \sum_i w_i. $$

    `kl` is the same with $\alpha = 1$ and $\beta = 1 - p_y$: it hardly passes on what a sure teacher knows about the
    other classes. With two classes the second term is 0.

    Args:
        student: logits `(N, C, *)`, C of at least 2.
        teacher: logits `(N, C, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        alpha: weight of the target term.
        beta: weight of the non-target term (paper: 2 to 8 on CIFAR by pair, 0.5 on ImageNet).
        tau: temperature (paper: 4 on CIFAR, 1 on ImageNet).
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022. Factor 1. The authors raise the weight of the
    loss linearly over the first 20 epochs on CIFAR: a matter of the entry, not of the loss.

    >>> import torch
    >>> s, t = torch.zeros(1, 3), torch.tensor([[0.0, 1.0986, 1.0986]])  # p = (1/7, 3/7, 3/7)
    >>> dkd(s, t, labels=torch.tensor([0]), tau=1.0).item()  # the others agree: KL((1/7, 6/7) || (1/3, 2/3))
    0.0943...
    """
    labels, weight = labelled(labels, weight, ignore_index, student.shape[1])
    target_q, rest_q, others_q = _decouple(student / tau, labels.unsqueeze(1))
    target_p, rest_p, others_p = _decouple(teacher / tau, labels.unsqueeze(1))
    target = target_p.exp() * (target_p - target_q) + rest_p.exp() * (rest_p - rest_q)
    others = F.kl_div(others_q, others_p, reduction="none", log_target=True).sum(1)
    return tau**2 * weighted_mean(alpha * target.squeeze(1) + beta * others, weight)


def _decouple(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return $\log p_y$, $\log(1 - p_y)$ and $\log \hat p$, the last with 0 in the place of y."""
    target, others = logits.gather(1, y), logits.scatter(1, y, -float("inf"))
    rest = others.logsumexp(1, keepdim=True)
    total = torch.logaddexp(target, rest)
    return target - total, rest - total, (others - rest).scatter(1, y, 0.0)
