"""What a teacher reads where the rows that are predicted are not the nodes of one plain graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


class Reads(ABC):
    """The input of a teacher, of which each row that is predicted is a part; the student has features of the rows."""

    what: ClassVar[str]
    """What the rows are, for messages."""

    @abstractmethod
    def take(self, rows: Tensor) -> Reads:
        """What is left when of the rows only these are seen, numbered in the order given."""

    @abstractmethod
    def tensors(self) -> Iterator[Tensor]:
        """Everything that a hash of it takes in."""

    @abstractmethod
    def arguments(self, device: torch.device, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a network in its own dtype and on its own device."""

    def rows_of(self, found: Any) -> Any:
        """The rows of what a network returns."""
        return found


@dataclass(frozen=True, eq=False)
class GraphSet(Reads):
    """Several graphs side by side; each is a row.

    A network is called as `network(x, edge_index, batch=batch)` and returns a row for each graph.

    Attributes:
        x: features `(M, F)` of the nodes of all graphs, graph by graph.
        edge_index: `(2, E)` between these.
        batch: `(M,)`, the graph of each node, ascending.
        count: number of graphs.
    """

    what: ClassVar[str] = "graphs"
    x: Tensor
    edge_index: Tensor
    batch: Tensor
    count: int

    def take(self, rows: Tensor) -> GraphSet:
        sizes = torch.bincount(self.batch, minlength=self.count)
        starts = sizes.cumsum(0) - sizes
        taken = sizes[rows]
        batch = torch.arange(len(rows)).repeat_interleave(taken)
        nodes = torch.arange(len(batch)) - (taken.cumsum(0) - taken)[batch] + starts[rows][batch]
        place = torch.full((len(self.batch),), -1)
        place[nodes] = torch.arange(len(nodes))
        ends = place[self.edge_index]
        return GraphSet(self.x[nodes], ends[:, (ends >= 0).all(0)], batch, len(rows))

    def tensors(self) -> Iterator[Tensor]:
        yield from (self.x, self.edge_index, self.batch)

    def arguments(self, device: torch.device, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.x.to(device, dtype), self.edge_index.to(device)), {"batch": self.batch.to(device)}


@dataclass(frozen=True, eq=False)
class Hetero(Reads):
    """Several kinds of nodes and edges; each node of one kind, the target, is a row.

    A network is called as `network(x_dict, edge_index_dict)` and returns rows, or a dict of them by kind.

    Attributes:
        x: by kind of nodes: features `(N_k, F_k)`.
        edges: by kind of edges `(source, relation, destination)`: `(2, E_k)`.
        target: the kind of nodes that is predicted.
    """

    what: ClassVar[str] = "nodes of one kind among several"
    x: Mapping[str, Tensor]
    edges: Mapping[tuple[str, str, str], Tensor]
    target: str

    @property
    def metadata(self) -> tuple[list[str], list[tuple[str, str, str]]]:
        """Kinds of nodes and of edges, as PyG's `to_hetero` takes them."""
        return list(self.x), list(self.edges)

    def take(self, rows: Tensor) -> Hetero:
        place = torch.full((len(self.x[self.target]),), -1)
        place[rows] = torch.arange(len(rows))
        left = {}
        for (source, relation, destination), ends in self.edges.items():
            low = place[ends[0]] if source == self.target else ends[0]
            high = place[ends[1]] if destination == self.target else ends[1]
            left[source, relation, destination] = torch.stack([low, high])[:, (low >= 0) & (high >= 0)]
        return Hetero({**self.x, self.target: self.x[self.target][rows]}, left, self.target)

    def tensors(self) -> Iterator[Tensor]:
        yield from self.x.values()
        yield from self.edges.values()

    def arguments(self, device: torch.device, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x = {kind: each.to(device, dtype) for kind, each in self.x.items()}
        return (x, {kind: each.to(device) for kind, each in self.edges.items()}), {}

    def rows_of(self, found: Any) -> Any:
        return found[self.target] if isinstance(found, Mapping) and self.target in found else found
