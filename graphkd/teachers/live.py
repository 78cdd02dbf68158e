"""Trained teachers that are asked about changed features, hidden layers or edges, while a student learns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from graphkd.data.graph import Graph
from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import near
from graphkd.sparse.rows import Matrix, rows
from graphkd.teachers.call import call, call_on
from graphkd.teachers.upper import Place, classifier, hidden_place, put
from graphkd.training.latency import hops
from kdlosses.taps import at_rest


@dataclass(frozen=True, eq=False)
class Live:
    """Teachers beside their cache: asked about unchanged features they say what is in there.

    They run in evaluation mode. Gradients reach the features, and no parameter of theirs. They know no more of a graph
    than they are given here: in an inductive setting the part that is seen.

    Attributes:
        networks: the teachers, see `graphkd.teachers.call.call`; they stay as they are.
        graphs: what each one reads, with the same nodes in the same order.
        x: features `(N, F)` of the student, if these are not those of the graphs; see `back`.
        back: from features of the student to those of the graphs, where the student scales its own.

    >>> from graphkd.data import digits
    >>> from graphkd.teachers import gcn
    >>> graph = digits()
    >>> live = Live([gcn(64, 10).eval()], [graph])
    >>> some = torch.tensor([3, 14])
    >>> torch.allclose(live(graph.x[some], some), live(graph.x)[some], atol=1e-5)
    True
    """

    networks: Sequence[nn.Module]
    graphs: Sequence[Graph]
    x: Matrix | None = None
    back: Callable[[Tensor], Tensor] | None = None
    _alike: dict[int, bool] = field(default_factory=dict, init=False, repr=False)
    _places: dict[int, Place] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.graphs[0])

    def __call__(
        self,
        x: Tensor,
        nodes: Tensor | slice = slice(None),
        edge_index: Tensor | None = None,
        which: int | None = None,
    ) -> Tensor:
        """Logits `(n, E C)` of nodes whose features are x; all other nodes have their own.

        In a batch of a network whose reach is known, what lies around its nodes is enough; whether it is, is found out
        the first time.

        Args:
            x: features `(n, F)` of these nodes, as the student has them.
            nodes: their numbers, each once, or `slice(None)` for all.
            edge_index: `(2, E)` in place of the graph's edges.
            which: one teacher alone, by its number; the last is -1.

        Raises:
            ValueError: edges are changed that have weights.
        """
        own = x if self.back is None else self.back(x)
        asked = range(len(self.networks)) if which is None else [which % len(self.networks)]
        return torch.cat([self._answer(k, own, nodes, edge_index) for k in asked], 1).to(x.dtype)

    def upper(self, hidden: Tensor, nodes: Tensor | slice = slice(None), which: int = -1) -> Tensor:
        """Logits `(n, C)` of nodes whose last hidden layer is another one; all other nodes have their own.

        Gradients go through the teacher's own layers above it to `hidden`, and to no parameter.

        Args:
            hidden: `(n, d)`, in place of the last hidden layer of the teacher's cache.
            nodes: their numbers, each once, or `slice(None)` for all.
            which: number of the teacher; the last if not given.

        Raises:
            ValueError: the teacher has no hidden layer.

        >>> from graphkd.data import digits
        >>> from graphkd.teachers import gcn
        >>> graph, teacher = digits(), gcn(64, 10).eval()
        >>> hidden = teacher.outputs(graph.x, graph.edge_index)[-2].detach()
        >>> live = Live([teacher], [graph])
        >>> torch.allclose(live.upper(hidden), live(graph.x), atol=1e-5)
        True
        """
        k = which % len(self.networks)
        x = rows(self.graphs[k].x, nodes).to_dense()
        return self._answer(k, x, nodes, None, hidden).to(hidden.dtype)

    def classifier(self, which: int = -1) -> tuple[Tensor, nn.Linear]:
        """What the last linear layer of a teacher reads, `(N, d)`, and what follows, at a node without neighbours.

        Raises:
            ValueError: there is no such layer, or what follows is no linear map.

        >>> from graphkd.data import digits
        >>> from graphkd.teachers import gcn
        >>> graph, teacher = digits(), gcn(64, 10)
        >>> features, linear = Live([teacher], [graph]).classifier()
        >>> features.shape, torch.allclose(linear.weight, teacher.layers[-1].lin.weight, atol=1e-5)
        (torch.Size([1797, 64]), True)
        """
        network, graph = self.networks[which], self.graphs[which]
        with _frozen(network), torch.no_grad():
            return classifier(network, graph)

    def _answer(
        self, k: int, x: Tensor, nodes: Tensor | slice, edge_index: Tensor | None, hidden: Tensor | None = None
    ) -> Tensor:
        network, graph = self.networks[k], self.graphs[k]
        edges, weight = graph.edge_index, graph.edge_weight
        if edge_index is not None:
            if weight is not None:
                raise ValueError("a teacher on a graph with edge_weight is asked about its own edges alone")
            edges = edge_index
        asked: Tensor | slice = nodes
        with _frozen(network):
            if isinstance(nodes, slice):
                given = x, edges, weight
            elif edge_index is None and weight is None and self._is_local(k, nodes):
                given, asked = self._nearby(k, x, nodes), slice(len(nodes))
            else:
                given = rows(graph.x).to_dense().index_copy(0, nodes, x.to(graph.x.dtype)), edges, weight
            with nullcontext() if hidden is None else put(self._hidden_place(k), functools.partial(_in, hidden, asked)):
                return call(network, *given, graph.num_classes)[asked]

    def _nearby(self, k: int, x: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, None]:
        """What lies around: one hop more than the network looks, for layers that read the degree of a source."""
        around = near(*self._by_target[k], nodes, hops(self.networks[k]) + 1)
        others = rows(self.graphs[k].x, around.nodes[len(nodes) :]).to_dense()
        return torch.cat([x.to(others.dtype), others]), around.edges, None

    def _hidden_place(self, k: int) -> Place:
        if k not in self._places:
            graph = self.graphs[k]
            self._places[k] = hidden_place(self.networks[k], lambda each: call_on(each, graph), len(graph))
        return self._places[k]

    @torch.no_grad()
    def _is_local(self, k: int, nodes: Tensor) -> bool:
        """Whether nodes hear nothing from beyond the reach of a network, as they do where it normalises over all."""
        if k not in self._alike:
            network, graph = self.networks[k], self.graphs[k]
            if not hops(network):
                self._alike[k] = False
            else:
                whole = call(network, graph.x, graph.edge_index, None, graph.num_classes)[nodes]
                given = self._nearby(k, rows(graph.x, nodes).to_dense(), nodes)
                part = call(network, *given, graph.num_classes)[: len(nodes)]
                self._alike[k] = torch.allclose(part, whole, rtol=1e-3, atol=1e-3)
        return self._alike[k]

    @functools.cached_property
    def _by_target(self) -> list[tuple[Tensor, Tensor]]:
        return [by_target(graph.edge_index, len(graph)) for graph in self.graphs]


def _in(hidden: Tensor, asked: Tensor | slice, layer: Tensor) -> Tensor:
    """A hidden layer with other rows where it is asked."""
    told = hidden.to(layer)
    if told.shape[1] != layer.shape[1]:
        raise ValueError(f"the teacher's last hidden layer is {layer.shape[1]} wide, what is put there {told.shape[1]}")
    if isinstance(asked, slice):
        return torch.cat([told, layer[len(told) :]])
    return layer.index_copy(0, asked.to(layer.device), told)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradient to parameters inside; all is as it was afterwards."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with at_rest(network):
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)
