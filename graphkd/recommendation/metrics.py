"""How many of the held out items are among the first K, and how far ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from graphkd.recommendation.interactions import Held

_BLOCK = 1024  # users at a time


@torch.inference_mode()
def recall_ndcg(users: Tensor, items: Tensor, seen: Tensor, held: Held, k: int) -> tuple[float, float]:
    r"""Recall@K and NDCG@K of a full ranking by dot products, means over the users with an item to be found.

    $$ \mathrm{Recall@}K = \frac{|R_u \cap T_u|}{|T_u|}, \qquad
       \mathrm{NDCG@}K = \frac{\sum_{r: R_u^r \in T_u} 1 / \log_2 (r + 1)}
                            {\sum_{r=1}^{\min(K, |T_u|)} 1 / \log_2 (r + 1)} $$

    with the first K items $R_u$ that are not `seen`, and the items $T_u$ to be found. Items and users that the training
    does not have are missed.

    Args:
        users: embeddings `(U, d)`.
        items: embeddings `(I, d)`.
        seen: pairs `(2, P)` that are left out of the ranking.
        held: what is to be found.
        k: K, at most I.

    >>> found = Held(torch.tensor([[0, 0], [1, 2]]), torch.zeros(1, dtype=torch.long))
    >>> recall_ndcg(torch.ones(1, 1), torch.tensor([[3.0], [2.0], [1.0]]), torch.tensor([[0], [0]]), found, k=1)
    (0.5, 1.0)
    """
    truth = torch.bincount(held.pairs[0], minlength=len(users))
    total = truth + held.lost
    asked = total.nonzero().flatten()
    gain = 1 / torch.arange(2, k + 2, dtype=torch.double).log2()
    ideal = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    recall = ndcg = 0.0
    for block in asked.split(_BLOCK):
        first = best(users[block], items, seen, block, k)
        hit = torch.isin(block[:, None] * len(items) + first, held.pairs[0] * len(items) + held.pairs[1]).double()
        recall += float((hit.sum(1) / total[block]).sum())
        ndcg += float((hit @ gain / ideal[total[block].clamp_max(k)]).sum())
    count = len(asked) + held.strangers
    return recall / count, ndcg / count


def best(users: Tensor, items: Tensor, seen: Tensor, ids: Tensor, k: int) -> Tensor:
    """Places `(n, K)` of the items with the greatest dot products, greatest first.

    Args:
        users: embeddings `(n, d)`.
        items: embeddings `(I, d)`.
        seen: pairs `(2, P)`, by the ids of users, that come last.
        ids: `(n,)`, different ids of the users.
        k: K.
    """
    scores = users @ items.T
    row = torch.full((1 + int(max(ids.max(), seen[0].max() if seen.numel() else 0)),), -1)
    row[ids] = torch.arange(len(ids))
    mine = row[seen[0]]
    scores[mine[mine >= 0], seen[1, mine >= 0]] = -torch.inf
    return scores.topk(k, dim=1).indices
