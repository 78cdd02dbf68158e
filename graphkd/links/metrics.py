"""Ranking metrics of edges against non-edges."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def hits(edges: Tensor, non_edges: Tensor, k: int = 20) -> float:
    """Hits@K: share of the edges that score above all but K - 1 of the non-edges; ties do not count as above.

    Args:
        edges: scores `(P,)`.
        non_edges: scores `(Q,)`, Q at least K.
        k: K.

    >>> hits(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.5, 1.5, 0.0]), k=2)
    0.6666666666666666
    """
    if not 1 <= k <= len(non_edges):
        raise ValueError(f"Hits@{k} needs {k} non-edges to rank edges among, there are {len(non_edges)}")
    return (edges > non_edges.topk(k).values[-1]).double().mean().item()


def auc(edges: Tensor, non_edges: Tensor) -> float:
    """Area under the ROC curve: how often an edge scores above a non-edge, ties counted by half.

    >>> auc(torch.tensor([3.0, 2.0]), torch.tensor([2.5, 1.5, 0.0]))
    0.8333333333333334
    """
    from sklearn.metrics import roc_auc_score

    truth = torch.cat([torch.ones(len(edges)), torch.zeros(len(non_edges))])
    return float(roc_auc_score(truth.numpy(), torch.cat([edges, non_edges]).double().numpy()))


def mrr(edges: Tensor, non_edges: Tensor) -> float:
    """Mean reciprocal rank of each edge among the non-edges; one that scores the same stands before it.

    >>> mrr(torch.tensor([3.0, 1.5]), torch.tensor([2.5, 1.5, 0.0]))  # ranks 1 and 3
    0.6666666666666666
    """
    above = len(non_edges) - torch.searchsorted(non_edges.sort().values, edges.contiguous())
    return (1 / (1 + above.double())).mean().item()


def ranked(score: Callable[[Tensor], Tensor], edges: Tensor, non_edges: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of edges and of non-edges, from one call of `score`, pairs `(2, P)` to `(P,)`."""
    one, other = score(torch.cat([edges, non_edges], 1)).split([edges.shape[1], non_edges.shape[1]])
    return one, other
