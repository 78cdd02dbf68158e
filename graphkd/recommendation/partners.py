"""Who has most in common: the strongest edges of two steps."""

from __future__ import annotations

import torch
from torch import Tensor

from graphkd.sparse.rows import csr, to_scipy

_BLOCK = 512  # rows at a time: a product with all columns is dense


def partners(edges: Tensor, users: int, nodes: int, count: int) -> Tensor:
    r"""Edges `(2, P)` between each node and those of its kind with which it has most neighbours in common.

    The strength of two nodes is $(A^2)_{ij} / \sqrt{d_i d_j}$, the cosine of their rows of A; of A^2 as many as `count`
    are kept a node, each edge once, from the lower node. On popular items A^2 itself is nearly dense.

    Args:
        edges: `(2, E)`, users above items, each once.
        users: how many nodes are users; they come first.
        nodes: how many there are.
        count: of partners; a node may have more, whose own it is.

    >>> partners(torch.tensor([[0, 0, 1, 1, 2], [3, 4, 3, 4, 5]]), users=3, nodes=6, count=1)
    tensor([[0, 3],
            [1, 4]])
    """
    found = [torch.empty(2, 0, dtype=torch.long)]
    for one, other, first, size in ((edges[0], edges[1], 0, users), (edges[1], edges[0], users, nodes - users)):
        row = one - first
        order = row.argsort(stable=True)
        crow = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=size).cumsum(0)])
        scale = crow.diff().clamp_min(1).float().rsqrt()
        had = to_scipy(csr(crow, other[order], scale[row[order]], nodes))
        for start in range(0, size, _BLOCK):
            block = torch.from_numpy((had[start : start + _BLOCK] @ had.T).toarray())
            block[torch.arange(len(block)), torch.arange(start, start + len(block))] = 0
            strength, near = block.topk(min(count, size), dim=1)
            node = torch.arange(start, start + len(block))[:, None].expand_as(near)[strength > 0]
            pair = first + torch.stack([node, near[strength > 0]])
            found.append(torch.stack(pair.aminmax(dim=0)))
    return torch.cat(found, 1).unique(dim=1)
