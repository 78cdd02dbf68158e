"""Batched random walks by indexing."""

from __future__ import annotations

import torch
from torch import Tensor

from graphkd.sparse.edges import by_target


class Walks:
    """Uniform random walks on a graph.

    Args:
        edge_index: `(2, E)`, walked from the first row to the second.
        nodes: number of nodes.

    >>> ring = torch.stack([torch.arange(5), torch.arange(5).roll(-1)])
    >>> Walks(ring, 6).walk(torch.tensor([3, 5]), 3, torch.Generator())  # node 5 has no edge: it stays
    tensor([[4, 0, 1],
            [5, 5, 5]])
    """

    def __init__(self, edge_index: Tensor, nodes: int) -> None:
        crow, target = by_target(edge_index.flip(0), nodes)
        self._target = target if len(target) else crow.new_zeros(1)  # where nobody walks, something to index
        self._start, self._degree = crow[:-1], crow.diff()

    def walk(self, nodes: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Return the nodes after each step of a walk from `nodes` `(B,)`, as `(B, steps)`."""
        found = []
        for _ in range(steps):
            degree = self._degree[nodes]
            chosen = (torch.rand(len(nodes), generator=generator, dtype=torch.float64) * degree).long()
            stays = degree == 0
            nodes = torch.where(stays, nodes, self._target[(self._start[nodes] + chosen).masked_fill(stays, 0)])
            found.append(nodes)
        return torch.stack(found, 1)
