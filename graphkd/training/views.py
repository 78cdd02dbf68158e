"""How much several views of the same nodes disagree."""

from __future__ import annotations

from torch import Tensor


def disagreement(p: Tensor, sharp: float) -> Tensor:
    r"""Squared distance of views from their sharpened mean, summed over the views.

    $$ \sum_s \frac{1}{N} \sum_i \|p_{si} - \bar p_i\|^2, \qquad
       \bar p_i \propto \Bigl( \frac{1}{S} \sum_s p_{si} \Bigr)^{k} $$

    Args:
        p: probabilities `(S, N, C)`; there is no gradient to $\bar p$.
        sharp: k.

    Paper: Feng et al., "Graph Random Neural Networks for Semi-Supervised Learning on Graphs", 2020.

    >>> import torch
    >>> disagreement(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]), 2.0)
    tensor(0.)
    """
    mean = p.detach().mean(0) ** sharp
    mean = mean / mean.sum(1, keepdim=True)
    return (p - mean).square().sum(2).mean(1).sum()
