from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(categorical=False)
def dse(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Squared error of pair scores: distill a cross-encoder teacher into a student that embeds each item alone.

    $$ l_i = \sum_c (z^s_{ic} - z^t_{ic})^2, \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    where $i$ is a pair, say a link of a graph or two regions of an image, and $z$ are its scores or logits. The student
    scores $(u, v)$ from the two embeddings, by their product or by a small head on $[u, v, u v, |u - v|]$; such a head
    is not symmetric, so both orders of a pair belong in the batch.

    Args:
        student: scores of the pairs `(N, C, *)`.
        teacher: scores of the pairs `(N, C, *)`.
        weight: `(N, *)`, pairs to count.

    Paper: Barkan et al., "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", AAAI 2020, there
    with weight 0.5 beside 0.5 of cross-entropy. Sum over scores, mean over pairs: factor 1; against `mse`, C.

    >>> import torch
    >>> dse(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])).item()
    5.0
    """
    return weighted_mean((student - teacher).square().sum(1), weight)
