"""The terms of a loss on users and items; all read the embeddings of all nodes, users first."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def margins(embeddings: Tensor, triples: Tensor) -> Tensor:
    """By how much a user prefers one item to another, `(T,)`: the difference of two dot products.

    Args:
        embeddings: of all nodes, `(N, d)`.
        triples: nodes `(3, T)`: a user, an item, another item.
    """
    user, item, other = (embeddings.index_select(0, each) for each in triples)  # its gradient is quicker than of [...]
    return (user * (item - other)).sum(1)


def bpr(embeddings: Tensor, triples: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, $-\frac1T \sum \log \sigma(y_{ui} - y_{uj})$; u has the item i, and not j.

    >>> import torch
    >>> bpr(torch.ones(3, 2), torch.tensor([[0], [1], [2]])).item()  # log(2)
    0.6931...
    """
    return -F.logsigmoid(margins(embeddings, triples)).mean()


def uniformity(anchors: Tensor, others: Tensor, tau: float = 1.0) -> Tensor:
    r"""How crowded others are around an anchor, $\frac1n \sum_i \log \sum_j e^{a_i \cdot b_j / \tau}$.

    Small where embeddings are spread; of users against items it counts against every item, so that with `bpr` for those
    that a user has it ranks them before all others at once.

    Args:
        anchors: a, `(n, d)`.
        others: b, `(m, d)`.
        tau: temperature.

    Raises:
        ValueError: the temperature is not positive.

    >>> import torch
    >>> uniformity(torch.zeros(2, 3), torch.zeros(4, 3)).item()  # log(4)
    1.3862...
    """
    if not tau > 0:
        raise ValueError(f"the temperature of the uniformity must be positive, got {tau!r}")
    return (anchors @ others.T / tau).logsumexp(1).mean()
