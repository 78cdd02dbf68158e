from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import by_sample, weighted_mean
from kdlosses.registry import register


@register
def cwd(
    student: Tensor,
    teacher: Tensor,
    tau: float = 1.0,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Channel-wise distillation: match each channel's distribution over positions.

    With $a_c = \mathrm{softmax}_i(f_{ic} / \tau)$, a distribution over the positions $i$ of one sample,

    $$ L = \tau^2 \, \mathrm{mean}_{n,c} \, \mathrm{KL}\big(a^t_{nc} \,\|\, a^s_{nc}\big). $$

    A constant added to a channel changes nothing. On nodes the positions of a sample are the nodes of a graph.

    Args:
        student: logits or features `(N, C, *)`.
        teacher: logits or features `(N, C, *)`.
        tau: temperature.
        weight: `(N, *)`, positions to count; those of weight 0 leave the softmax, samples without any leave the mean.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.

    Paper: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021. Factor 1. On the logits of
    a segmentation head the authors' recipe is tau 4 with weight 3, another common one tau 1 with weight 5; on each
    level of a detector's neck tau 1 with weight 10.

    >>> import torch
    >>> round(cwd(torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 1.0986]]]])).item(), 4)  # KL((1/4, 3/4) || (1/2, 1/2))
    0.1308
    """
    student, teacher, weight = by_sample(student, teacher, weight, batch)
    if weight is None:
        log_s, log_t = F.log_softmax(student / tau, dim=2), F.log_softmax(teacher / tau, dim=2)
        difference = log_t - log_s
        return tau**2 * weighted_mean((log_t.exp_() * difference).sum(2))  # in place: no gradient needs log_t
    # log w inside the softmax makes weight 2 the same as two copies; a finite floor keeps empty samples finite
    log_w = weight.to(student.dtype).log().clamp_min(torch.finfo(student.dtype).min / 4).unsqueeze(1)
    log_s, log_t = F.log_softmax(student / tau + log_w, dim=2), F.log_softmax(teacher / tau + log_w, dim=2)
    divergence = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(2)
    return tau**2 * weighted_mean(divergence.mean(1), (weight > 0).any(1))
