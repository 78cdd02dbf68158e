"""Graph networks on graphs that do not fit: trained on sampled neighbourhoods, applied layer by layer to all nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import Near, near
from graphkd.sparse.rows import Matrix, csr, rows
from graphkd.teachers.gnn import GNN
from graphkd.teachers.sage import MeanConv

BLOCK = 1 << 16
"""Nodes at a time."""

Space = Callable[[int, int], Tensor]
"""A function `(rows, columns) -> tensor` of float32 to be filled."""


def trimmed(network: GNN, x: Tensor, around: Near) -> Tensor:
    """Logits of the seeds of a neighbourhood of as many hops as the network has layers, with gradient.

    Each layer is computed for the nodes that a later one reads, and no others.

    Args:
        network: a stack of layers of one hop each.
        x: features of `around.nodes`.
        around: see `graphkd.sparse.neighbours.near`.
    """
    *inner, last = network.layers
    for place, (layer, norm) in enumerate(zip(inner, network.norms)):
        left = len(inner) - place  # hops that later layers look
        h = network.activation(
            norm(_of_some(layer, x, around.edges[:, : around.reached[left + 1]], around.within[left]))
        )
        x = F.dropout(h, network.dropout, network.training)
    return _of_some(last, x, around.edges[:, : around.reached[1]], around.within[0])


def _of_some(layer: nn.Module, x: Tensor, edges: Tensor, asked: int) -> Tensor:
    """What a layer gives the first `asked` nodes, into which all edges lead."""
    if not isinstance(layer, MeanConv) or x.layout is not torch.strided:
        return layer(x, edges)[:asked]
    narrow = layer.linear.in_features <= layer.linear.out_features  # then the mean comes first: fewer numbers to add up
    z = x if narrow else layer.linear(x)
    crow, source = by_target(edges, asked)
    with torch.autocast(z.device.type, enabled=False):  # no sparse product is in half precision
        z = z.float()
        mean = (csr(crow, source, z.new_ones(len(source)), len(z)) @ z + z[:asked]) / (crow.diff() + 1).unsqueeze(1)
    return layer.linear(mean) if narrow else mean


class _Sum(NamedTuple):
    """A layer that adds up what it makes of each node: `after_i (sum_j before_j W x_j + before_i W x_i) + b`.

    The sum is over the sources j of edges into i.
    """

    linear: nn.Module
    before: Tensor | None
    after: Tensor
    bias: Tensor | None


def _as_sum(layer: nn.Module, crow: Tensor) -> _Sum | None:
    """The layer as a sum, if it is one of those known; of others each block is computed on its neighbourhood."""
    from torch_geometric.nn import GCNConv

    reach = (crow.diff() + 1).float().unsqueeze(1)
    if isinstance(layer, MeanConv):
        return _Sum(layer.linear, None, 1 / reach, None)
    if isinstance(layer, GCNConv) and layer.normalize and layer.add_self_loops and not layer.improved:
        return _Sum(layer.lin, reach.rsqrt(), reach.rsqrt(), layer.bias)
    return None


@torch.inference_mode()
def layerwise(
    network: GNN,
    x: Matrix,
    crow: Tensor,
    source: Tensor,
    *,
    block: int = BLOCK,
    share: tuple[int, int] = (0, 1),
    space: Space = torch.empty,
    joined: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, Tensor]]:
    """Logits over all neighbours, `(first node, (n, C))` for one block of nodes after the other.

    Layer by layer, so that a node is computed once and not for each of those that it is a neighbour of. Exact for
    layers that look one hop and do not read how many edges leave a node, and for `GCNConv`; see `check_layerwise`.

    Args:
        network: in evaluation mode, on the CPU.
        x: features `(N, F)`, in memory or on disk.
        crow: where the edges into each node begin, see `by_target`.
        source: where they come from, in memory or on disk.
        block: nodes at a time.
        share: `(i, k)`, part i from 0 of k: blocks of this process, when k processes share the nodes of each layer.
        space: makes what a layer's output is written to, of k processes in a file that all of them see.
        joined: called when this process has written its part of a layer; returns when all have.
    """
    nodes = len(crow) - 1
    starts = range(0, nodes, block)
    mine = starts[len(starts) * share[0] // share[1] : len(starts) * (share[0] + 1) // share[1]]

    def stacked(parts: Iterable[tuple[int, Tensor]]) -> Tensor:
        whole: Tensor | None = None
        for start, part in parts:
            whole = space(nodes, part.shape[1]) if whole is None else whole
            whole[start : start + len(part)] = part
        if whole is None:
            raise ValueError(f"{share[1]} processes are more than there are blocks, {len(starts)}: start fewer")
        joined()
        return whole

    h: Matrix = x
    for place, layer in enumerate(network.layers):
        step = _as_sum(layer, crow)
        if step is not None:
            h = stacked(_projected(step, h, mine, block))
        found = _summed(step, h, crow, source, mine, block) if step else _around(layer, h, crow, source, mine, block)  # type: ignore[arg-type]
        if place == len(network.layers) - 1:
            yield from found
        else:
            norm = network.norms[place]
            h = stacked((start, network.activation(norm(part))) for start, part in found)


def _projected(step: _Sum, h: Matrix, starts: range, block: int) -> Iterator[tuple[int, Tensor]]:
    for start in starts:
        part = step.linear(_block(h, start, block))
        yield start, part if step.before is None else part * step.before[start : start + block]


def _summed(
    step: _Sum, h: Tensor, crow: Tensor, source: Tensor, starts: range, block: int
) -> Iterator[tuple[int, Tensor]]:
    for start in starts:
        begins = crow[start : start + block + 1]
        ends = source[begins[0] : begins[-1]]
        summed = csr(begins - begins[0], ends, torch.ones(len(ends)), len(h)) @ h + h[start : start + block]
        out = summed * step.after[start : start + block]
        yield start, out if step.bias is None else out + step.bias


def _around(
    layer: nn.Module, h: Matrix, crow: Tensor, source: Tensor, starts: range, block: int
) -> Iterator[tuple[int, Tensor]]:
    for start in starts:
        parts = torch.arange(start, min(start + block, len(crow) - 1)).split(max(1, block // 8))  # messages take memory
        found = []
        for asked in parts:
            around = near(crow, source, asked, 1)
            found.append(layer(rows(h, around.nodes), around.edges)[: len(asked)])
        yield start, torch.cat(found)


def _block(h: Matrix, start: int, block: int) -> Tensor:
    dense = isinstance(h, Tensor) and h.layout is torch.strided
    part = slice(start, start + block)
    return rows(h, part if dense else torch.arange(start, min(start + block, h.shape[0])))


def check_layerwise(network: nn.Module, x: Tensor, edge_index: Tensor, crow: Tensor, source: Tensor) -> None:
    """Raise ValueError unless a network gives a small graph, layer by layer, what it gives it as a whole.

    Args:
        network: in evaluation mode.
        x: features `(N, F)` of the small graph.
        edge_index: its edges.
        crow: the same, sorted, see `by_target`.
        source: likewise.
    """
    name, rest = type(network).__name__, "choose sage, gcn or gat, or scale='full'"
    if not isinstance(network, GNN) or type(network).outputs is not GNN.outputs:
        raise ValueError(f"a {name} is no stack of graph layers (`graphkd.teachers.gnn.GNN`): {rest}")
    with torch.inference_mode():
        whole = network(x, edge_index)
        parts = torch.cat([part for _, part in layerwise(network, x, crow, source, block=max(1, len(x) // 3))])
        try:
            alike = torch.allclose(parts, whole, rtol=1e-3, atol=1e-3 * max(1.0, float(whole.abs().max())))
        except RuntimeError:  # other shapes
            alike = False
    if not alike or any(_hops(layer) > 1 for layer in network.layers):
        raise ValueError(
            f"the teacher {name} of {', '.join(type(layer).__name__ for layer in network.layers)} cannot be applied "
            f"layer by layer, each over the direct neighbours: {rest}"
        )


def _hops(layer: nn.Module) -> int:
    from graphkd.training.latency import hops

    return hops(layer)
