"""Neighbourhoods of some nodes of a graph whose edges are sorted by target: whole or sampled, hop by hop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Fanout = int | Sequence[int | None] | None
"""The number of edges into a node that are taken at most: one for all hops, or one a hop. None takes all."""
_FEW = 1 << 14
_SECOND = 10  # neighbours of a neighbour that are looked at


class Near(NamedTuple):
    """What lies around some nodes.

    Attributes:
        nodes: ids, the seeds first, then hop by hop.
        edges: `(2, E)` between places in `nodes`, hop by hop: those into the seeds first.
        within: number of nodes within 0, 1, ... hops.
        reached: number of edges that lead to the seeds in 0, 1, ... hops.
    """

    nodes: Tensor
    edges: Tensor
    within: list[int]
    reached: list[int]


def near(
    crow: Tensor,
    source: Tensor,
    seeds: Tensor,
    hops: int,
    fanout: Fanout = None,
    generator: torch.Generator | None = None,
) -> Near:
    """The nodes within some hops of `seeds`, against the direction of edges, and the edges on the way.

    Costs as much as it finds, whatever the size of the graph. A layer that averages over the edges into a node gives
    the seeds what it gives them on the whole graph, if there is no `fanout`.

    Args:
        crow: where the edges into each node begin, see `by_target`.
        source: where they come from.
        seeds: different nodes.
        hops: how far to go.
        fanout: drawn without replacement; see `Fanout`.
        generator: draws them.

    >>> crow, source = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1, 2])  # a path 0 -> 1 -> 2 -> 3
    >>> near(crow, source, torch.tensor([3]), hops=2)[2:]
    ([1, 2, 3], [0, 1, 2])
    """
    limits = list(fanout) if isinstance(fanout, Sequence) else [fanout] * hops
    if len(limits) != hops:
        raise ValueError(f"fanout has {len(limits)} numbers; expected one for each of {hops} hops, or one for all")
    seen, known, spot = seeds, *seeds.sort()  # in their order, and sorted with their places
    frontier, found, within = seeds, [], [len(seeds)]
    for limit in limits:
        first = crow[frontier]
        target, edge = _drawn(first, crow[frontier + 1] - first, limit, generator)
        ids, number = source[edge].long().unique(return_inverse=True)
        at = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        new = known[at] != ids
        place = torch.where(new, len(seen) - 1 + new.cumsum(0), spot[at])
        found.append(torch.stack([place[number], target + len(seen) - len(frontier)]))
        frontier = ids[new]
        seen = torch.cat([seen, frontier])
        known, order = torch.cat([known, frontier]).sort()
        spot = torch.cat([spot, place[new]])[order]
        within.append(len(seen))
    reached = torch.tensor([0, *(part.shape[1] for part in found)]).cumsum(0).tolist()
    edges = torch.cat(found, dim=1) if found else torch.empty(2, 0, dtype=torch.long)
    return Near(seen, edges, within, reached)


def _drawn(first: Tensor, count: Tensor, limit: int | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Row and number of the edges taken, at most `limit` of the `count` edges of each row that begin at `first`."""
    kept = count if limit is None else count.clamp(max=limit)
    row = torch.arange(len(count)).repeat_interleave(kept)
    place = torch.arange(len(row)) - (kept.cumsum(0) - kept)[row]
    if limit is not None and limit > 0:
        many = (count > limit).nonzero().flatten()
        which = torch.full((len(count),), -1)
        which[many] = torch.arange(len(many))
        inside = which[row] >= 0
        place[inside] = _distinct(count[many], limit, generator)[which[row[inside]], place[inside]]
    return row, first[row] + place


def _distinct(count: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """Different numbers `(n, size)` below each `count`, uniformly: of few the first in a random order, else by Floyd's
    algorithm, which draws `size` numbers a row whatever the count.
    """
    if int(count.sum()) < _FEW:
        row = torch.arange(len(count)).repeat_interleave(count)
        order = (row + torch.rand(len(row), generator=generator, dtype=torch.float64)).argsort()
        first = count.cumsum(0) - count
        return order[first.unsqueeze(1) + torch.arange(size)] - first.unsqueeze(1)
    chosen = torch.empty(len(count), size, dtype=torch.long)
    for place in range(size):
        last = count - size + place
        drawn = (torch.rand(len(count), generator=generator, dtype=torch.float64) * (last + 1)).long()
        taken = (chosen[:, :place] == drawn[:, None]).any(1)
        chosen[:, place] = torch.where(taken, last, drawn)
    return chosen


def two_hop_sets(crow: Tensor, source: Tensor, nodes: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """For each node itself and others drawn from within two hops, against the direction of edges, `(n, size)`.

    Those drawn are different and equally likely, as far as there are so many; fewer come again in the same order, and a
    node without neighbours stands for all. At most `size` neighbours of a node are looked at, and ten of each of these,
    so that hubs cost no more than others.

    Args:
        crow: where the edges into each node begin, see `by_target`.
        source: where they come from.
        nodes: `(n,)`.
        size: how many, the node itself among them.
        generator: draws them.

    >>> crow, source = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1, 2])  # a path 0 -> 1 -> 2 -> 3
    >>> two_hop_sets(crow, source, torch.tensor([0, 1]), 4, torch.Generator())
    tensor([[0, 0, 0, 0],
            [1, 0, 0, 0]])
    >>> two_hop_sets(crow, source, torch.tensor([3]), 3, torch.Generator()).sort().values
    tensor([[1, 2, 3]])
    """
    if size == 1:
        return nodes.unsqueeze(1)
    many = len(crow) - 1
    first = crow[nodes]
    row, edge = _drawn(first, crow[nodes + 1] - first, size, generator)
    near = source[edge].long()
    first = crow[near]
    behind, edge = _drawn(first, crow[near + 1] - first, _SECOND, generator)
    row, found = torch.cat([row, row[behind]]), torch.cat([near, source[edge].long()])
    key = (row * many + found)[found != nodes[row]].unique()
    row, found = key // many, key % many
    order = (row + torch.rand(len(row), generator=generator, dtype=torch.float64)).argsort()
    count = torch.bincount(row, minlength=len(nodes)).unsqueeze(1)
    place = count.cumsum(0) - count + torch.arange(size - 1) % count.clamp_min(1)
    found = torch.cat([found[order], nodes[:1]])  # so that there is something to index
    others = torch.where(count > 0, found[place.clamp_max(len(found) - 1)], nodes.unsqueeze(1))
    return torch.cat([nodes.unsqueeze(1), others], 1)
