from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def bd_kd(student: Tensor, teacher: Tensor, tau: float = 4.0, weight: Tensor | None = None) -> Tensor:
    r"""Forward and reverse divergence, weighted at each position by the entropies of the two models.

    $$ l_i = \tau^2 \big( d_i \, \mathrm{KL}(p_i \| q_i) + (1 - d_i) \, \mathrm{KL}(q_i \| p_i) \big), \quad
       d_i = \frac{H(p_i)}{H(p_i) + H(q_i)}, \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $p, q$ the softmax of $z^t / \tau, z^s / \tau$ and no gradient through $d_i$: a student more sure than its
    teacher has to cover it, one less sure has to choose. The paper balances the two directions per sample; the rule for
    $d_i$ is ours. Its teacher learns at the same time: give it, beside its own cross-entropy, the entry
    `dict(type="kl", tau=4.0)` with student and teacher swapped. The claim is calibration: report it beside accuracy.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature.
        weight: `(N, *)`, positions to count.

    Paper: Amara et al., "BD-KD: Balancing the Divergences for Online Knowledge Distillation", 2022. A mean over
    positions; the factor to the authors' weights is unknown.

    >>> import torch
    >>> s, t = torch.tensor([[0.0, 1.0986]]), torch.tensor([[1.0986, 0.0]])  # equally sure: half of `jeffreys`
    >>> bd_kd(s, t, tau=1.0).item()  # log(3) / 2
    0.5492...
    """
    log_p, log_q = F.log_softmax(teacher / tau, dim=1), F.log_softmax(student / tau, dim=1)
    p, q = log_p.exp(), log_q.exp()
    tiny = torch.finfo(p.dtype).tiny  # two certain models are balanced
    entropy_p, entropy_q = -(p * log_p).sum(1, keepdim=True) + tiny, -(q * log_q).sum(1, keepdim=True).detach() + tiny
    d = entropy_p / (entropy_p + entropy_q)
    return tau**2 * weighted_mean(((d * p - (1 - d) * q) * (log_p - log_q)).sum(1), weight)
