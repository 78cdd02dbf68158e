"""Nodes as what is learned and forgotten."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.data import Split
from graphkd.sparse.rows import rows
from graphkd.unlearning.task import Task


@dataclass(frozen=True, eq=False)
class Nodes(Task):
    """Classes of nodes.

    Attributes:
        x: features `(N, F)`.
        edge_index: `(2, E)`, in both directions.
        y: classes `(N,)`, -1 where there is none; of deleted nodes, too.
        split: nodes to learn from, to select by and to test on.
        present: `(N,)`, which nodes there still are.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor
    split: Split
    present: Tensor
    quality = "accuracy"

    @property
    def elements(self) -> Tensor:  # type: ignore[override]
        return self.split.train

    def logits(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        return h[elements]

    def confidence(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        told = h[elements].double().log_softmax(1)  # in float32 those of the surest nodes would be equal
        return told.gather(1, self._own(h, elements)).squeeze(1)

    def traits(self, model: nn.Module, h: Tensor, elements: Tensor) -> Tensor:
        told = h[elements].log_softmax(1)
        return torch.cat([told.topk(min(3, told.shape[1]), 1).values, told.gather(1, self._own(h, elements))], 1)

    def _own(self, h: Tensor, nodes: Tensor) -> Tensor:
        """The class `(n, 1)` of nodes; of those without a label what the model takes them for."""
        y = self.y[nodes]
        return torch.where(y < 0, h[nodes].argmax(1), y)[:, None]

    def truth(self, elements: Tensor) -> Tensor:
        return self.y[elements]

    def strangers(self, count: int, generator: torch.Generator) -> Tensor:
        there = self.present.nonzero().flatten()
        return there[torch.randint(len(there), (count,), generator=generator)]

    def kept(self, batch: Tensor | slice, generator: torch.Generator) -> Tensor:
        return self.present.nonzero().flatten()[batch]

    @property
    def steps_over(self) -> int:
        return int(self.present.sum())

    def supervised(self, model: nn.Module, batch: Tensor | slice, generator: torch.Generator) -> Tensor:
        nodes = self.split.train[batch]
        return F.cross_entropy(self.run(model)[nodes], self.y[nodes])

    def val(self, model: nn.Module, h: Tensor) -> float:
        return self._accuracy(h, self.split.val)

    def test(self, model: nn.Module, h: Tensor) -> float | None:
        return self._accuracy(h, self.split.test) if len(self.split.test) else None

    def held_out(self) -> Tensor:
        return self.split.test

    def shadow(self, deleted: Tensor, generator: torch.Generator) -> tuple[Nodes, Tensor]:
        """Among labelled nodes that are not learned: as many to learn, of the others a fifth to select by."""
        free = self.present & (self.y >= 0)
        free[torch.cat([deleted, self.elements])] = False
        nodes = free.nonzero().flatten()
        nodes = nodes[torch.randperm(len(nodes), generator=generator)]
        place = torch.full((len(self.x),), -1).index_copy(0, nodes, torch.arange(len(nodes)))
        ends = place[self.edge_index]
        members = min(len(self.elements), len(nodes) // 2)
        select = (len(nodes) - members) // 5
        if not select:
            raise ValueError(f"{len(nodes)} labelled nodes are not learned from, too few for an attack on membership")
        learnt, chosen, others = torch.arange(len(nodes)).split([members, select, len(nodes) - members - select])
        task = Nodes(
            rows(self.x, nodes),
            ends[:, (ends >= 0).all(0)],
            self.y[nodes],
            Split(learnt, chosen, others),
            torch.ones(len(nodes), dtype=torch.bool),
        )
        return task, others

    def _accuracy(self, h: Tensor, nodes: Tensor) -> float:
        return (h[nodes].argmax(1) == self.y[nodes]).double().mean().item()
