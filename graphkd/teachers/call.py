"""Call any graph network in its own dtype and on its own device."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.data.graph import Graph
from graphkd.teachers.taps import hidden_layers
from graphkd.teachers.units import rescaled


def call(
    network: nn.Module, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, classes: int | None = None
) -> Tensor:
    """Return logits `(N, C)` of a network, in float32 and on the CPU, with gradient.

    Args:
        network: called as `network(x, edge_index)`, with weights also with `edge_weight=`. It may return a tuple or a
            list, one tensor of which is `(N, classes)`.
        x: features `(N, F)` in float32, on the CPU.
        edge_index: `(2, E)`.
        edge_weight: `(E,)`.
        classes: C, to identify the logits.

    Raises:
        ValueError: it returns something else.
    """
    return _logits(network(*_own(network, x, edge_index), **_weights(network, edge_weight)), len(x), classes)


def call_on(network: nn.Module, graph: Graph) -> Tensor:
    """Return the logits `(N, C)` of a network on a graph, or on what it reads in its place, as `call` does."""
    if graph.reads is None:
        return call(network, graph.x, graph.edge_index, graph.edge_weight, graph.num_classes)
    given, named = graph.reads.arguments(*kind_of(network))
    return _logits(graph.reads.rows_of(network(*given, **named)), len(graph), graph.num_classes)


def call_some(network: nn.Module, graph: Graph, nodes: Tensor) -> Tensor:
    """Return the logits `(n, C)` of some of the nodes of `call_on`; a `GNN` may compute no more than these."""
    from graphkd.teachers.gnn import GNN

    if not isinstance(network, GNN) or type(network).some is GNN.some:
        return call_on(network, graph)[nodes]
    if graph.reads is not None or graph.edge_weight is not None:
        return call_on(network, graph)[nodes]
    return _logits(network.some(*_own(network, graph.x, graph.edge_index), nodes), len(nodes), graph.num_classes)


def outputs(network: nn.Module, graph: Graph) -> list[Tensor]:
    """Hidden layers and logits, see `call`; of a network without a method `outputs` like `GNN` see `hidden_layers`.

    Raises:
        ValueError: the network fails, as it does on features of another width, or returns something else; or a tap
            that it names yields no hidden layer.
    """
    from graphkd.teachers.gnn import GNN

    def forward(network: nn.Module) -> Tensor:
        try:
            return call_on(network, graph)
        except (IndexError, RuntimeError, TypeError) as error:
            raise _unable(network, graph, error) from error

    tapped = hasattr(network, "hidden_taps")
    try:
        if graph.reads is None and isinstance(network, GNN) and not tapped:
            x, edge_index = _own(network, graph.x, graph.edge_index)
            *hidden, logits = network.outputs(x, edge_index, **_weights(network, graph.edge_weight))
            return [out.float().cpu() for out in (*hidden, rescaled(network, logits))]
        row_outputs: Any = getattr(network, "row_outputs", None)
        if graph.reads is not None and row_outputs is not None and not tapped:
            given, named = graph.reads.arguments(*kind_of(network))
            *hidden, logits = row_outputs(*given, **named)
            return [out.float().cpu() for out in (*hidden, rescaled(network, logits))]
    except (IndexError, RuntimeError, TypeError) as error:
        raise _unable(network, graph, error) from error
    hidden, logits = hidden_layers(network, forward, len(graph))
    return [*hidden, logits]


def place_of(network: nn.Module, graph: Graph) -> Any:
    """Where in what a network returns the predictions are, as `InUnits` takes it.

    Raises:
        ValueError: it returns something else, see `call`.
    """
    if graph.reads is None:
        out = network(*_own(network, graph.x, graph.edge_index), **_weights(network, graph.edge_weight))
    else:
        given, named = graph.reads.arguments(*kind_of(network))
        out = network(*given, **named)
    rows = out if graph.reads is None else graph.reads.rows_of(out)
    if rows is not out:
        return next(key for key, each in out.items() if each is rows)
    if isinstance(out, tuple | list):
        _logits(out, len(graph), graph.num_classes)
        wanted = (len(graph), graph.num_classes)
        return next(i for i, each in enumerate(out) if isinstance(each, Tensor) and tuple(each.shape) == wanted)
    return None


def _unable(network: nn.Module, graph: Graph, error: Exception) -> ValueError:
    if graph.reads is not None:
        return ValueError(f"the teacher {type(network).__name__!r} cannot be run on {graph.reads.what}: {error}")
    return ValueError(
        f"the teacher {type(network).__name__!r} cannot be run on features {tuple(graph.x.shape)} and edges "
        f"{tuple(graph.edge_index.shape)}: {error}"
    )


def readable(network: nn.Module, graph: Graph) -> Graph:
    """The graph with features as the network takes them, dense unless it declares sparse support."""
    return replace(graph, x=_dense(network, graph.x))


def uses_weights(network: nn.Module) -> bool:
    """Whether a network takes edge weights: its `forward` has an argument `edge_weight`.

    PyG's models and `GNN` have it in any case, and say in `supports_edge_weight` whether their layers read it.
    """
    try:
        named = "edge_weight" in inspect.signature(network.forward).parameters
    except (TypeError, ValueError):  # of a compiled module
        return False
    return named and bool(getattr(network, "supports_edge_weight", True))


def kind_of(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the first parameter, or buffer, of floats; the CPU and float32 if there is none."""
    for each in itertools.chain(network.parameters(), network.buffers()):
        if each.is_floating_point():
            return each.device, each.dtype
    return torch.device("cpu"), torch.float32


def _dense(network: nn.Module, x: Tensor) -> Tensor:
    sparse = getattr(network, "sparse", False) and kind_of(network)[1] is torch.float32
    return x if x.layout is torch.strided or sparse else x.to_dense()


def _own(network: nn.Module, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    device, dtype = kind_of(network)
    return _dense(network, x).to(device, dtype), edge_index.to(device)


def _weights(network: nn.Module, edge_weight: Tensor | None) -> dict[str, Tensor]:
    if edge_weight is None:
        return {}
    device, dtype = kind_of(network)
    return {"edge_weight": edge_weight.to(device, dtype)}


def _logits(found: Any, nodes: int, classes: int | None) -> Tensor:
    if isinstance(found, tuple | list):
        fitting = [
            each
            for each in found
            if isinstance(each, Tensor) and each.ndim == 2 and len(each) == nodes and classes in (None, each.shape[1])
        ]
        if len(fitting) != 1:
            shapes = [tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in found]
            raise ValueError(f"the teacher returns {shapes}; expected logits ({nodes}, {classes}), once")
        found = fitting[0]
    if not isinstance(found, Tensor):
        raise ValueError(f"the teacher returns a {type(found).__name__}; expected logits ({nodes}, {classes or 'C'})")
    return found.float().cpu()
