"""Combine two heads on one body, one for the labels and one for the teacher."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def mix_heads(hard: Tensor, soft: Tensor, share: float = 0.5, tau: float = 0.5) -> Tensor:
    r"""Mixed predictions of two heads, as log-probabilities.

    $$ \log \big( a \, \mathrm{softmax}(z) + (1 - a) \, \mathrm{softmax}(z' / b) \big) $$

    Args:
        hard: z, logits `(N, C, *)` of the head that learns from the labels.
        soft: $z'$, logits `(N, C, *)` of the head that learns from the teacher.
        share: a, 0 to 1 (paper: 0.5); 1 leaves `soft` out.
        tau: b, the temperature of `soft` (paper: 0.5).

    Paper: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
    Optimization", 2025. There the second head is a cosine, times 100.

    >>> mix_heads(torch.tensor([[50.0, -50.0]]), torch.tensor([[0.0, 0.0]])).exp()
    tensor([[0.7500, 0.2500]])
    """
    _check(share, tau)
    first, second = hard.log_softmax(1), (soft / tau).log_softmax(1)
    if share in (0, 1):  # the logarithm of 0 times minus infinity
        return first if share else second
    return torch.logaddexp(first + math.log(share), second + math.log(1 - share))


class FoldedHeads(nn.Module):
    r"""A parametrization by which one linear layer predicts as the mixture of two, for networks with one last layer.

    $$ W = a \, W_1 + \frac{1 - a}{b} W_2 $$

    Its softmax is the geometric mixture of the two predictions, $\propto q_1^a \, q_2^{1-a}$ with
    $q_2 = \mathrm{softmax}(z' / b)$; the arithmetic one of `mix_heads` is the output of no linear layer. In training
    mode the weight is $W_1$ alone, so that the labels train the first head.

    Args:
        other: the second head's weight or bias, of the same shape.
        share: a, 0 to 1.
        tau: b.

    Paper: none; a form of our own of the mixture in `mix_heads`.

    >>> from torch.nn.utils import parametrize
    >>> one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> x = torch.ones(1, 3)
    >>> expected = 0.5 * one(x) + 0.5 / 0.5 * two(x)
    >>> for name in ("weight", "bias"):
    ...     _ = parametrize.register_parametrization(one, name, FoldedHeads(getattr(two, name)))
    >>> torch.allclose(one.eval()(x), expected)
    True
    """

    def __init__(self, other: Tensor, share: float = 0.5, tau: float = 0.5) -> None:
        super().__init__()
        _check(share, tau)
        self.other = other
        self.share, self.tau = share, tau

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            return weight
        return self.share * weight + (1 - self.share) / self.tau * self.other


def _check(share: float, tau: float) -> None:
    if not 0 <= share <= 1 or not tau > 0:
        raise ValueError(f"dho: share is 0 to 1 and the temperature tau positive, got {share} and {tau}")
