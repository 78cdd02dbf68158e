from __future__ import annotations

from torch import Tensor

from kdlosses import kl, register


@register(categorical=True)
def llp_dist(student: Tensor, teacher: Tensor, tau: float = 1.0, weight: Tensor | None = None) -> Tensor:
    r"""Distribution loss of LLP: match the softmax of an anchor's scores over its context.

    $$ L = \frac{\tau^2}{N} \sum_v \mathrm{KL}\bigl(\mathrm{softmax}(t_v / \tau) \,\|\,
       \mathrm{softmax}(s_v / \tau)\bigr) $$

    in nats, over the S scores of each anchor v: `kl`, with the partners of an anchor for classes. One number added to
    all scores of an anchor, on either side, changes nothing.

    Args:
        student: logits `(N, S, *)`, of S partners of each of N anchors.
        teacher: logits `(N, S, *)`.
        tau: temperature.
        weight: `(N, *)`, anchors to count.

    Paper: Guo et al., "Linkless Link Prediction via Relational Distillation", ICML 2023: a sum over anchors there, so
    that 1 here is 1 / N of that; the authors' code takes the mean. Logits are our own form: the authors' scores are
    probabilities, whose softmax can never be far from uniform.

    >>> import torch
    >>> llp_dist(torch.zeros(1, 2), torch.tensor([[0.0, 1.0986]])).item()  # KL((1/4, 3/4) || (1/2, 1/2))
    0.1308...
    """
    return kl(student, teacher, tau, weight)
