from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.kl import kl
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(least={"k": 0})
def topk_kl(
    student: Tensor, teacher: Tensor, k: int | None = None, tau: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""Forward divergence on the teacher's top k classes, reverse divergence on the rest.

    With S the k likeliest classes of the teacher, R the rest, and $P, Q$ the mass of S under $p, q$ (the softmax of
    $z^t / \tau, z^s / \tau$),

    $$ l_i = \tau^2 \Big( P \, \mathrm{KL}\big(\tfrac{p_S}{P} \big\| \tfrac{q_S}{Q}\big)
         + (1 - Q) \, \mathrm{KL}\big(\tfrac{q_R}{1 - Q} \big\| \tfrac{p_R}{1 - P}\big)
         + \mathrm{KL}\big((P, 1 - P) \big\| (Q, 1 - Q)\big) \Big), \qquad L = \sum_i w_i l_i / \sum_i w_i. $$

    $k = C$ is `kl`, $k = 0$ is `rkl`. The paper publishes the idea (forward and reverse divergence, split at the top k)
    and no formula: this one is ours.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`; it alone decides which classes are S.
        k: number of classes in S; from C on it is `kl`. If not given half of the classes, rounded down, at most 10.
        tau: temperature.
        weight: `(N, *)`, positions to count.

    Paper: "Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative Models", 2025 (there TopKLD). The factor
    to the authors' weights is unknown.

    >>> import torch
    >>> s, t = torch.zeros(1, 3), torch.tensor([[1.0986, 0.0, 0.0]])  # (1/3, 1/3, 1/3) and (3/5, 1/5, 1/5)
    >>> [round(topk_kl(s, t, k=k).item(), 4) for k in (0, 1, 3)]  # the rest agree: k = 1 covers all that there is
    [0.1446, 0.1483, 0.1483]
    """
    k = min(10, student.shape[1] // 2) if k is None else k
    if k >= student.shape[1]:
        return kl(student, teacher, tau=tau, weight=weight)
    log_p, log_q = F.log_softmax(teacher / tau, dim=1), F.log_softmax(student / tau, dim=1)
    outside = torch.ones_like(log_p).scatter(1, teacher.topk(k, dim=1).indices, 0.0)
    difference = log_p - log_q
    p, q = log_p.exp_(), log_q.exp()
    rest_p, rest_q = ((x * outside).sum(1).clamp_min(torch.finfo(x.dtype).tiny) for x in (p, q))
    # the three divergences, summed: P log P and the like cancel, the mass of R stays
    each = ((p - p * outside - q * outside) * difference).sum(1)
    return tau**2 * weighted_mean(each + (rest_p + rest_q) * (rest_p.log() - rest_q.log()), weight)
