"""Batched random walks by indexing."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from graphkd.sparse.edges import by_target


class Walks:
    """Random walks on a graph.

    Args:
        edge_index: `(2, E)`, walked from the first row to the second.
        nodes: number of nodes.

    >>> ring = torch.stack([torch.arange(5), torch.arange(5).roll(-1)])
    >>> Walks(ring, 6).walk(torch.tensor([3, 5]), 3, torch.Generator())  # node 5 has no edge: it stays
    tensor([[4, 0, 1],
            [5, 5, 5]])
    """

    def __init__(self, edge_index: Tensor, nodes: int) -> None:
        crow, self._target = by_target(edge_index.flip(0), nodes)
        self._start, self._degree, self._nodes = crow[:-1], crow.diff(), nodes

    def walk(
        self, nodes: Tensor, steps: int, generator: torch.Generator, back: float = 1.0, away: float = 1.0
    ) -> Tensor:
        r"""Return the nodes after each step of a walk from `nodes` `(B,)`, as `(B, steps)`.

        The first step is uniform. After that a walk that came from u to v goes on to w with a chance in proportion to
        $1 / p$ if $w = u$, 1 if there is an edge from u to w, and $1 / q$ otherwise: node2vec. With p = q = 1 every
        step is uniform: DeepWalk.

        Args:
            nodes: starts.
            steps: of each walk.
            generator: draws.
            back: p, positive; the smaller, the sooner a walk returns.
            away: q, positive; the smaller, the sooner it leaves the neighbourhood.

        Raises:
            ValueError: p or q is no finite positive number.

        Paper: Grover, Leskovec, "node2vec: Scalable Feature Learning for Networks", KDD 2016.
        """
        if not (0 < back < math.inf and 0 < away < math.inf):  # or no step would ever be taken
            raise ValueError(f"back and away of a walk are positive and finite, got {back} and {away}")
        found = [nodes]
        for step in range(steps):
            if step == 0 or back == away == 1:
                found.append(self._step(found[-1], generator))
            else:
                found.append(self._biased(found[-2], found[-1], (1 / back, 1.0, 1 / away), generator))
        return torch.stack(found[1:], 1)

    def _step(self, nodes: Tensor, generator: torch.Generator) -> Tensor:
        """To a neighbour of each, drawn uniformly."""
        degree = self._degree[nodes]
        chosen = (torch.rand(len(nodes), generator=generator, dtype=torch.float64) * degree).long()
        stays = degree == 0
        if stays.all():
            return nodes
        return torch.where(stays, nodes, self._target[(self._start[nodes] + chosen).masked_fill(stays, 0)])

    def _biased(
        self, before: Tensor, nodes: Tensor, chance: tuple[float, float, float], generator: torch.Generator
    ) -> Tensor:
        """The same, where a uniform draw is kept with its chance, over the greatest, and else drawn anew."""
        back, near, away = (each / max(chance) for each in chance)
        found, open = nodes.clone(), torch.arange(len(nodes))
        while len(open):
            drawn, came = self._step(nodes[open], generator), before[open]
            keep = torch.where(self._joined(came, drawn), near, away).masked_fill(came == drawn, back)
            taken = torch.rand(len(open), generator=generator, dtype=torch.float64) < keep
            found[open[taken]] = drawn[taken]
            open = open[~taken]
        return found

    def _joined(self, source: Tensor, target: Tensor) -> Tensor:
        """Whether there is an edge from each source to each target."""
        if not len(self._sorted):
            return torch.zeros(len(source), dtype=torch.bool)
        wanted = source * self._nodes + target
        place = torch.searchsorted(self._sorted, wanted).clamp_max(len(self._sorted) - 1)
        return self._sorted[place] == wanted

    @functools.cached_property
    def _sorted(self) -> Tensor:
        """Every edge as one number, ascending."""
        return (torch.arange(self._nodes).repeat_interleave(self._degree) * self._nodes + self._target).sort().values
