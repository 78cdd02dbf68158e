from __future__ import annotations

from torch import Tensor

from kdlosses.logit.js import js
from kdlosses.registry import register


@register
def ssld(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Label-free distillation by the Jensen-Shannon divergence, on unlabelled data.

    $$ l_i = \tfrac12 \mathrm{KL}(p_i \| m_i) + \tfrac12 \mathrm{KL}(q_i \| m_i), \quad m = \tfrac12 (p + q),
       \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    in nats, with $p, q$ the softmax of the logits; symmetric, at most $\log 2$. The authors train on it alone, with no
    cross-entropy, on labelled and unlabelled images, and fine-tune on the labels afterwards. On a graph every node is
    there to learn from.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature (paper: 1); the value is multiplied by $\tau^2$, as in `kl`.
        weight: `(N, *)`, positions to count.

    Paper: Cui et al., "Beyond Self-Supervision: A Simple Yet Effective Network Distillation Alternative to Improve
    Backbones", 2021. Sum over classes, mean over positions: factor 1; mean over all elements,
    1 / C.

    >>> import torch
    >>> ssld(torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])).item()  # no overlap: log(2)
    0.6931...
    """
    return js(student, teacher, beta=0.5, tau=tau, weight=weight)
