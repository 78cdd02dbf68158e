"""The training data of a link student."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graphkd.links.pairs import NonEdges
from graphkd.sparse.edges import both_ways
from graphkd.sparse.rows import Matrix
from graphkd.sparse.walks import Walks
from graphkd.training.loop import History


@dataclass(frozen=True, eq=False)
class LinkLesson:
    """The data that a link recipe may use. Nodes are the rows of `x`; edges of validation and test are left out.

    Attributes:
        x: features `(N, F)` in memory or on disk.
        edges: `(2, E)` to learn from, each once.
        train: the shared training loop with its schedule bound, to be called as `train(model, loss, edges)`.
        generator: for whatever a recipe samples.
        teacher: logits `(*)` of pairs `(2, *)`.
    """

    x: Matrix
    edges: Tensor
    train: Callable[..., History]
    generator: torch.Generator
    teacher: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return self.edges.shape[1]

    @property
    def nodes(self) -> int:
        return self.x.shape[0]

    def teacher_scores(self) -> Callable[[Tensor], Tensor]:
        """Return the teacher; raise if there is none."""
        if self.teacher is None:
            raise ValueError("this recipe learns from a teacher: fit(..., teacher=pairs_to_logits)")
        return self.teacher

    def labelled(self, batch: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Edges of a step and as many newly drawn non-edges: pairs `(2, 2n)` and their labels, 1 or 0."""
        edges = self.edges[:, batch]
        none = self._non_edges.draw(edges.shape[1], self.generator)
        return torch.cat([edges, none], 1), torch.arange(2).repeat_interleave(edges.shape[1]).flip(0).float()

    def hard_loss(self, score: Callable[[Tensor], Tensor], batch: Tensor | slice) -> Tensor:
        """Binary cross-entropy of the logits that `score` gives to `labelled` pairs."""
        pairs, truth = self.labelled(batch)
        return F.binary_cross_entropy_with_logits(score(pairs), truth)

    def anchors(self, batch: Tensor | slice) -> Tensor:
        """Nodes for a step: all of them, or a newly drawn share equal to the step's share of the edges."""
        if isinstance(batch, slice):
            return torch.arange(self.nodes)
        count = -(-self.nodes * len(batch) // len(self))
        return torch.randint(self.nodes, (count,), generator=self.generator)

    def walk(self, nodes: Tensor, steps: int) -> Tensor:
        """See `Walks.walk`; over the edges to learn from, in both directions."""
        return self._walks.walk(nodes, steps, self.generator)

    @functools.cached_property
    def _non_edges(self) -> NonEdges:
        return NonEdges(self.edges, self.nodes)

    @functools.cached_property
    def _walks(self) -> Walks:
        return Walks(both_ways(self.edges), self.nodes)
