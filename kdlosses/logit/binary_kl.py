from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(categorical=False, over_classes=False)
def binary_kl(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Kullback-Leibler divergence label by label, for several labels at once: each has a sigmoid of its own.

    $$ L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \sum_l
         \Big( p_{il} \log \frac{p_{il}}{q_{il}} + (1 - p_{il}) \log \frac{1 - p_{il}}{1 - q_{il}} \Big), \quad
       p = \sigma(z^t / \tau), \; q = \sigma(z^s / \tau) $$

    in nats, summed over labels and averaged over positions; 0 if and only if the logits agree. Of one label it is `kl`
    of the two logits $(0, z)$.

    Args:
        student: logits `(N, L, *)`, one for each label.
        teacher: logits `(N, L, *)`.
        tau: temperature; the factor $\tau^2$ keeps the size of the gradient.
        weight: `(N, *)`, positions to count.

    Paper: Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023 (there beside two terms on embeddings). Weights
    of other code times this factor are weights here: mean over labels, 1 / L; mean over positions, 1.

    >>> import torch
    >>> binary_kl(torch.tensor([[0.0]]), torch.tensor([[1.0986]])).item()  # KL((3/4, 1/4) || (1/2, 1/2))
    0.1308...
    """
    s, t = student / tau, teacher / tau
    # log of p/q and of (1-p)/(1-q) differ by t - s
    each = t.sigmoid() * (t - s) + F.logsigmoid(-t) - F.logsigmoid(-s)
    return tau**2 * weighted_mean(each.sum(1), weight)
