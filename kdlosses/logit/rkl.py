from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def rkl(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Reverse Kullback-Leibler divergence: the student seeks a mode of the teacher instead of covering all of them.

    $$ L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \sum_c q_{ic} \log \frac{q_{ic}}{p_{ic}}, \quad
       p = \mathrm{softmax}(z^t / \tau), \; q = \mathrm{softmax}(z^s / \tau) $$

    in nats; 0 if and only if the two distributions agree.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature; the factor $\tau^2$ is ours, as in `kl`.
        weight: `(N, *)`, positions to count.

    Paper: Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024. A mean over positions (or
    over the tokens of a mask, here `weight`): factor 1.

    >>> rkl(torch.tensor([[0.0, 1.0986]]), torch.tensor([[0.0, 0.0]])).item()  # KL((1/4, 3/4) || (1/2, 1/2))
    0.1308...
    """
    q = F.softmax(student / tau, dim=1)
    with torch.no_grad():  # sum_c q dlog(q) = sum_c dq = 0: the whole gradient comes through q
        difference = F.log_softmax(student / tau, dim=1).sub_(F.log_softmax(teacher / tau, dim=1))
    return tau**2 * weighted_mean((q * difference).sum(1), weight)
