"""Edges as what is learned and forgotten."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.links.metrics import auc
from graphkd.links.network import LinkGNN
from graphkd.links.pairs import NonEdges, pair_keys
from graphkd.sparse.edges import both_ways
from graphkd.sparse.rows import rows
from graphkd.unlearning.task import Task


@dataclass(frozen=True, eq=False)
class Links(Task):
    """Link prediction: a pair scores as the product of its two rows says, of a `LinkGNN` as its predictor says.

    Attributes:
        x: features `(N, F)`.
        elements: edges `(2, n)` to learn from and to pass messages over, each once.
        chosen_by: edges and non-edges to select by; without them, as many of each as `elements` has, drawn once.
        tested_on: edges and non-edges of the test, if any.

    >>> task = Links(torch.eye(3), torch.tensor([[0], [1]]))
    >>> h = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    >>> task.confidence(nn.Identity(), h, torch.tensor([[0, 0], [1, 2]]))
    tensor([2., 0.])
    """

    x: Tensor
    elements: Tensor
    chosen_by: tuple[Tensor, Tensor] | None = None
    tested_on: tuple[Tensor, Tensor] | None = None
    quality = "AUC_t"

    @functools.cached_property
    def edge_index(self) -> Tensor:  # type: ignore[override]
        return both_ways(self.elements)

    @functools.cached_property
    def none(self) -> NonEdges:
        """All pairs that are no edges."""
        return NonEdges(self.elements, len(self.x))

    def confidence(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        if isinstance(model, LinkGNN):
            return model.predictor(h, elements)
        one, other = F.embedding(elements, h)
        return (one * other).sum(-1)

    def logits(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        score = self.confidence(model, h, elements)
        return torch.stack([score, torch.zeros_like(score)], 1)  # whose softmax is (p, 1 - p)

    def traits(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        one, other = F.embedding(elements, h)
        size = (one.norm(dim=1) * other.norm(dim=1)).clamp_min(1e-12)
        return torch.stack([self.confidence(model, h, elements), (one * other).sum(-1) / size, size.log()], 1)

    def truth(self, elements: Tensor) -> Tensor:
        return torch.zeros(elements.shape[1], dtype=torch.long)  # edges, all of them

    def strangers(self, count: int, generator: torch.Generator) -> Tensor:
        return self.none.draw(count, generator)

    def kept(self, batch: Tensor | slice, generator: torch.Generator) -> Tensor:
        edges = self.elements[:, batch]
        return torch.cat([edges, self.strangers(edges.shape[1], generator)], 1)

    @property
    def steps_over(self) -> int:
        return self.elements.shape[1]

    def supervised(self, model: nn.Module, batch: Tensor | slice, generator: torch.Generator) -> Tensor:
        pairs = self.kept(batch, generator)
        truth = torch.arange(2).repeat_interleave(pairs.shape[1] // 2)
        return F.cross_entropy(self.logits(model, self.run(model), pairs), truth)

    @functools.cached_property
    def _select_by(self) -> tuple[Tensor, Tensor]:
        if self.chosen_by is not None:
            return self.chosen_by
        return self.elements, self.strangers(self.elements.shape[1], torch.Generator().manual_seed(0))

    def val(self, model: nn.Module, h: Tensor) -> float:
        return auc(*(self.confidence(model, h, pairs) for pairs in self._select_by))

    def test(self, model: nn.Module, h: Tensor) -> float | None:
        if self.tested_on is None:
            return None
        return auc(*(self.confidence(model, h, pairs) for pairs in self.tested_on))

    def held_out(self) -> Tensor:
        return self.elements[:, :0] if self.tested_on is None else self.tested_on[0]

    def shadow(self, deleted: Tensor, generator: torch.Generator) -> tuple[Links, Tensor]:
        """Among a half of the nodes, drawn: half of the edges to learn, of the others a fifth to select by."""
        nodes = torch.randperm(len(self.x), generator=generator)[: len(self.x) // 2]
        place = torch.full((len(self.x),), -1).index_copy(0, nodes, torch.arange(len(nodes)))
        size = len(self.x)
        own = self.elements[:, ~torch.isin(pair_keys(self.elements, size), pair_keys(deleted, size))]
        ends = place[own]
        ends = ends[:, (ends >= 0).all(0)]
        ends = ends[:, torch.randperm(ends.shape[1], generator=generator)]
        members = ends.shape[1] // 2
        select = (ends.shape[1] - members) // 5
        if not select:
            raise ValueError(f"half of the graph has {ends.shape[1]} edges, too few for an attack on membership")
        learnt, chosen, others = ends.split([members, select, ends.shape[1] - members - select], 1)
        none = NonEdges(ends, len(nodes)).sample(select, generator)
        return Links(rows(self.x, nodes), learnt, (chosen, none)), others
