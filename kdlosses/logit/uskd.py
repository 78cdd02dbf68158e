from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register
def uskd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 0.1,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Self-distillation: soft targets from the student's own label probability and its ranking of the other classes.

    With $y$ the label, $q = \mathrm{softmax}(z^s)$, $\hat q$ the same renormalised over all classes but $y$, and
    $\hat w$ likewise that of a weak head on a middle layer of the student,

    $$ l_i = -\alpha P_i \log q_{iy} - \beta \sum_{c \ne y} Z_{ic} \log \hat q_{ic}, \quad
       P_i = 1 + q_{iy}^2 - \overline{q_y^2}, \quad Z_{ic} = \frac{1 / r_{ic}}{\sum_{k=1}^{C-1} 1 / k}, \qquad
       L = \sum_i w_i l_i / \sum_i w_i, $$

    where $r_{ic}$ is the rank of $\hat q_{ic} + \hat w_{ic}$ among the classes but $y$, 1 for the greatest (Zipf's
    law), and the bar is the (weighted) mean over the positions of the call. No gradient goes through $P$ and $Z$. Use
    it beside the usual cross-entropy. The weak head (pool and linear on images, linear on nodes) learns from an entry
    of its own: `label_smoothing` on its logits with `smoothing` $0.1 (C - 1) / C$ and weight $\mu$ (paper: 0.005).

    Args:
        student: logits `(N, C, *)`, C of at least 2.
        teacher: logits `(N, C, *)` of the weak head; they are only ranked.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        alpha: weight of the target term (paper: 1 on ImageNet, 0.1 on CIFAR).
        beta: weight of the non-target term (paper: 0.1).
        ignore_index: label that marks a position to leave out.
        weight: `(N, *)`, positions to count.

    Paper: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
    Loss and Customized Soft Labels", ICCV 2023. Factor 1. Probabilities are ranked here, as in the paper; the authors'
    code ranks a sum of probabilities and log-probabilities, with the label among them.

    >>> import torch
    >>> z, y = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([0])
    >>> uskd(z, z, labels=y, alpha=0.0, beta=1.0).item()  # target (2/3, 1/3) against (0.731, 0.269)
    0.6465...
    """
    labels, weight = labelled(labels, weight, ignore_index, student.shape[1])
    y = labels.unsqueeze(1)
    log_q = F.log_softmax(student, dim=1).gather(1, y).squeeze(1)
    square = (2 * log_q.detach()).exp()
    target = (1 + square - weighted_mean(square, weight)) * log_q

    none = torch.finfo(student.dtype).min / 4  # finite: the label's share is 0, and 0 times this is 0
    others, weak = (x.scatter(1, y, none) for x in (student, teacher))
    score = F.softmax(others.detach(), dim=1) + F.softmax(weak, dim=1)
    rank = score.scatter(1, y, -1.0).argsort(dim=1, descending=True).argsort(dim=1) + 1  # the label comes last
    zipf = (1 / rank.to(score.dtype)).scatter(1, y, 0.0)
    zipf = zipf / zipf.sum(1, keepdim=True)
    rest = (zipf * F.log_softmax(others, dim=1)).sum(1)
    return -weighted_mean(alpha * target + beta * rest, weight)
