from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def kl(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Temperature-softened Kullback-Leibler divergence, the classic distillation loss.

    $$ L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \sum_c p_{ic} \log \frac{p_{ic}}{q_{ic}}, \quad
       p = \mathrm{softmax}(z^t / \tau), \; q = \mathrm{softmax}(z^s / \tau) $$

    in nats, summed over classes and averaged over positions; 0 if and only if the two distributions agree.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature; the factor $\tau^2$ keeps the size of the gradient.
        weight: `(N, *)`, positions to count.

    Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015 (there in its cross-entropy form:
    the same gradient). Weights of other code times this factor are weights here: `batchmean` on maps, H W; the mean
    over all elements, 1 / C; mean over positions, 1.

    >>> import torch
    >>> kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0986]])).item()  # KL((1/4, 3/4) || (1/2, 1/2))
    0.1308...
    """
    log_p = F.log_softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    difference = log_p - log_q
    return tau**2 * weighted_mean((log_p.exp_() * difference).sum(1), weight)  # in place: no gradient needs log_p
