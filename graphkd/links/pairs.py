"""Pairs of nodes: edges, each once, and non-edges, which are computed and not stored."""

from __future__ import annotations

import torch
from torch import Tensor


def once(edge_index: Tensor) -> Tensor:
    """Each undirected edge once, lower node first, without self-loops.

    >>> once(torch.tensor([[0, 1, 2, 2], [1, 0, 1, 2]]))
    tensor([[0, 1],
            [1, 2]])
    """
    codes = _codes(edge_index[:, edge_index[0] != edge_index[1]]).unique()
    return _pairs(codes)


def pair_keys(pairs: Tensor, nodes: int) -> Tensor:
    """One number for each pair `(2, n)` of so many nodes, the same in both directions.

    >>> pair_keys(torch.tensor([[0, 2], [2, 0]]), 3)
    tensor([2, 2])
    """
    return pairs.min(0).values * nodes + pairs.max(0).values


class NonEdges:
    """All pairs of different nodes without an edge, in a fixed order, as a sequence that is computed and not stored.

    Number k is found by counting the edges before it: O(edges) memory, and O(log edges) for each pair.

    Args:
        edge_index: `(2, E)`, in any direction.
        nodes: number of nodes.

    >>> free = NonEdges(torch.tensor([[0, 2], [1, 1]]), nodes=4)
    >>> len(free), free[torch.arange(4)].T.tolist()
    (4, [[0, 2], [0, 3], [1, 3], [2, 3]])
    """

    def __init__(self, edge_index: Tensor, nodes: int) -> None:
        codes = _codes(once(edge_index))
        self._before = codes - torch.arange(len(codes))  # how many non-edges stand before each edge
        self._count = nodes * (nodes - 1) // 2 - len(codes)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Tensor) -> Tensor:
        return _pairs(place + torch.searchsorted(self._before, place, right=True))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw pairs `(2, count)` uniformly, with replacement."""
        if count and not len(self):
            raise ValueError("the graph is complete: there is no non-edge to draw")
        return self[torch.randint(max(1, len(self)), (count,), generator=generator)]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw different pairs `(2, count)` uniformly."""
        if count > len(self):
            raise ValueError(f"the graph has {len(self)} non-edges, fewer than the {count} to draw")
        if len(self) <= 4 * count:
            return self[torch.randperm(len(self), generator=generator)[:count]]
        drawn = torch.empty(0, dtype=torch.long)
        while len(drawn) < count:  # twice at most, but for chance
            drawn = torch.cat([drawn, torch.randint(len(self), (2 * count,), generator=generator)]).unique()
        return self[drawn[torch.randperm(len(drawn), generator=generator)[:count]]]


def _codes(pairs: Tensor) -> Tensor:
    """Number of each pair of different nodes: row by row of the lower triangle."""
    low, high = pairs.aminmax(dim=0)
    return high * (high - 1) // 2 + low


def _pairs(codes: Tensor) -> Tensor:
    """The inverse of `_codes`, lower node first."""
    high = ((1 + (1 + 8 * codes.double()).sqrt()) / 2).long()
    high -= (high * (high - 1) // 2 > codes).long()  # what the root was rounded by
    high += (high * (high + 1) // 2 <= codes).long()
    return torch.stack([codes - high * (high - 1) // 2, high])
