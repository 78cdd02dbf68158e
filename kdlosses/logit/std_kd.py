from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def std_kd(student: Tensor, teacher: Tensor, eps: float = 1e-7, weight: Tensor | None = None) -> Tensor:
    r"""Divergence of standardised logits: the temperature of a position is the standard deviation of its logits.

    $$ l_i = \mathrm{KL}\Big(\mathrm{softmax}\big(z^t_i / s(z^t_i)\big) \,\Big\|\,
         \mathrm{softmax}\big(z^s_i / s(z^s_i)\big)\Big), \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $s$ the standard deviation over the classes (of a sample: divided by C - 1). Any $a z + b$ with $a > 0$ is as
    good as $z$, on either side: the shape of the logits is taught, not their size.

    Args:
        student: logits `(N, C, *)`, C of at least 2; it takes 3 for the shape to mean much.
        teacher: logits `(N, C, *)`.
        eps: logits of a smaller standard deviation are constant: they stay as they are.
        weight: `(N, *)`, positions to count.

    Paper: Choi et al., "Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study", WACV 2023,
    there with weight 0.9 beside 0.1 of cross-entropy. `batchmean`: factor 1 on nodes, H W on maps.

    >>> z = torch.tensor([[1.0, 2.0, 4.0]])
    >>> round(std_kd(3 * z + 1, z).item(), 6)
    0.0
    """
    log_p, log_q = (F.log_softmax(_standardised(z, eps), dim=1) for z in (teacher, student))
    difference = log_p - log_q
    return weighted_mean((log_p.exp_() * difference).sum(1), weight)  # in place: no gradient needs log_p


def _standardised(logits: Tensor, eps: float) -> Tensor:
    deviation = logits.std(1, keepdim=True)
    return logits / torch.where(deviation > eps, deviation, 1.0)
