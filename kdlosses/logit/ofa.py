from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register
def ofa(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    gamma: float = 1.0,
    tau: float = 1.0,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy with a teacher whose target class is enhanced, for students of another architecture.

    $$ l_i = -\sum_c \big[ (p_{ic} + 1_{c = y})^\gamma - 1_{c = y} \big] \log q_{ic},
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $p, q$ the softmax of $z^t / \tau, z^s / \tau$ and no factor $\tau^2$. $\gamma = 1$ is the cross-entropy
    between teacher and student, $H(p)$ at best. $\gamma > 1$ raises the weight of the label above $p_y$ and lowers the
    others; the target no longer sums to 1, so the size of the gradient depends on $\gamma$. A position without a label
    has no target class: there $\gamma = 1$, which is our own.

    The paper applies it to the last logits and to the logits of a branch on each stage of the student, which makes
    features of unlike architectures comparable: `head='branch'` of an entry, see `kdlosses.heads`.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index`: no label.
        gamma: enhancement (paper: 1 to 1.5 by pair).
        tau: temperature.
        ignore_index: label that marks a position without a label.
        weight: `(N, *)`, positions to count.

    Paper: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation",
    NeurIPS 2023. Their reduction is this one: factor 1.

    >>> import torch
    >>> z = torch.zeros(1, 2)
    >>> ofa(z, z, labels=torch.tensor([0]), gamma=2.0).item()  # target (1.25, 0.25) times log(2)
    1.0397...
    """
    labels, known = labelled(labels, None, ignore_index, student.shape[1])
    y, p = labels.unsqueeze(1), F.softmax(teacher / tau, dim=1)
    target = p.pow(gamma).scatter(1, y, (p.gather(1, y) + 1).pow(gamma) - 1)
    target = target.where(known.unsqueeze(1), p)
    return -weighted_mean((target * F.log_softmax(student / tau, dim=1)).sum(1), weight)
