from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register
def bsd_pixel(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    tau: float = 1.0,
    ties: bool = True,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Selective pixel-wise distillation: use the teacher only where its error is smaller than the student's.

    With $e_i = -\log p_{i y_i}$ the error of each side at position i and V what is labelled,

    $$ L = \frac{\tau^2}{|V|} \sum_{i \in V} [e^t_i \le e^s_i] \, \mathrm{KL}(p^t_i \,\|\, p^s_i), \qquad
       p = \mathrm{softmax}(z / \tau). $$

    Two networks that teach each other have two of these, one with `ties=False`, so that each position is taught in one
    direction. The mean is over all that is labelled: a student that is better everywhere costs nothing.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        labels: classes `(N, *)`.
        tau: temperature of what is matched; errors are at temperature 1.
        ties: whether the teacher is used where both are equally good.
        ignore_index: label that does not count; neither do negative ones.
        weight: `(N, *)`, positions to count.

    Paper: Zhu et al., "A Good Student is Cooperative and Reliable: CNN-Transformer Collaborative Learning for Semantic
    Segmentation", ICCV 2023, for the idea. Its formulas were not available to us: this form is our own. Factor 1,
    weight 1.

    >>> import torch
    >>> good, bad = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> bsd_pixel(bad, good, torch.tensor([0])).item() > 0, bsd_pixel(good, bad, torch.tensor([0])).item()
    (True, 0.0)
    """
    labels, counted = labelled(labels, weight, ignore_index, student.shape[1])
    mine, its = (F.cross_entropy(z.detach(), labels, reduction="none") for z in (student, teacher))
    worse = ~(mine < its) if ties else ~(mine <= its)  # so put that a NaN is not hidden
    log_q, log_p = F.log_softmax(student / tau, dim=1), F.log_softmax(teacher / tau, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return tau**2 * weighted_mean(torch.where(worse, divergence, 0), counted)
