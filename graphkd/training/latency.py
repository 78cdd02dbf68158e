"""Inference latency, by one protocol for teachers and students.

A student answers from the features of a node. A teacher must first look up who is near: all who are, as many hops away
as it has layers, or at most `FANOUT` neighbours a hop, drawn anew each time. That look-up counts, as do reading the
features and the forward pass; sorting the edges by target, once and for all, does not.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import Near, near
from graphkd.sparse.rows import Matrix, rows

WARMUP, REPEATS = 2, 10
FANOUT, BATCH = 10, 256
PROTOCOL = (
    "wall clock of look-up and forward pass, features and edges in memory: all nodes; one node with its whole "
    f"neighbourhood; one node, and {BATCH}, with at most {FANOUT} neighbours a hop; a student needs no neighbours; "
    f"median of {REPEATS} after {WARMUP} warm-ups"
)


def latency(forward: Callable[[], object], warmup: int = WARMUP, repeats: int = REPEATS) -> float:
    """Median wall-clock milliseconds of `forward`."""
    seconds = []
    with torch.inference_mode():
        for _ in range(warmup + repeats):
            start = time.perf_counter()
            forward()
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[warmup:])


def student_latencies(network: nn.Module, x: Matrix, all_nodes: float | None = None) -> dict[str, float]:
    """Milliseconds of a network that reads features alone: `all_nodes`, `one_node`, `batch`, see `PROTOCOL`.

    `all_nodes` may have been measured elsewhere.

    >>> list(student_latencies(nn.Linear(4, 2), torch.ones(9, 4)))
    ['all_nodes', 'one_node', 'batch']
    """
    if all_nodes is None:
        whole = rows(x)
        all_nodes = latency(lambda: network(whole))
    asked = _asked(x.shape[0])
    return {
        "all_nodes": all_nodes,
        "one_node": latency(lambda: network(rows(x, next(asked)[:1]))),
        "batch": latency(lambda: network(rows(x, next(asked)))),
    }


def teacher_latencies(
    network: nn.Module,
    x: Matrix,
    edge_index: Tensor,
    crow: Tensor | None = None,
    all_nodes: float | None = None,
    forward: Callable[[Tensor, Near], Tensor] | None = None,
) -> dict[str, float]:
    """Milliseconds of a network on a graph: `all_nodes`, `one_node`, `one_node_sampled`, `batch`, see `PROTOCOL`.

    Only `all_nodes` of a network whose reach is not known, see `hops`.

    Args:
        network: called as `network(x, edge_index)`.
        x: features `(N, F)`.
        edge_index: `(2, E)`, source above target.
        crow: where the edges into each node begin, `(N + 1,)`, if the edges are sorted by target already.
        all_nodes: milliseconds, if measured elsewhere.
        forward: from the features of a neighbourhood to what the network says of its seeds; by default the network
            computes every layer for all of it.
    """
    if all_nodes is None:
        whole = rows(x)
        all_nodes = latency(lambda: network(whole, edge_index))
    reach = hops(network)
    if not reach:
        return {"all_nodes": all_nodes}
    source = edge_index[0]
    if crow is None:
        crow, source = by_target(edge_index, x.shape[0])
    asked = _asked(x.shape[0])
    draw = torch.Generator().manual_seed(0)

    def answer(count: int, fanout: int | None) -> Tensor:
        around = near(crow, source, next(asked)[:count], reach, fanout, draw)
        x_near = rows(x, around.nodes)
        return network(x_near, around.edges)[:count] if forward is None else forward(x_near, around)

    return {
        "all_nodes": all_nodes,
        "one_node": latency(lambda: answer(1, None)),
        "one_node_sampled": latency(lambda: answer(1, FANOUT)),
        "batch": latency(lambda: answer(BATCH, FANOUT)),
    }


def hops(network: nn.Module) -> int:
    """Receptive field of a network in hops: its attribute `hops`, or the sum of those of its parts.

    A `MessagePassing` layer of PyG counts as K hops (default 1). Returns 0 if the reach is unknown.
    """
    from torch_geometric.nn import MessagePassing

    told = getattr(network, "hops", None)
    if told is not None:
        return int(told)
    if isinstance(network, MessagePassing):
        return int(getattr(network, "K", 1))
    return sum(hops(part) for part in network.children())


def _asked(nodes: int) -> Iterator[Tensor]:
    """Different nodes for each call, the same ones for every network; drawn before the clock runs."""
    draw = torch.Generator().manual_seed(0)
    return itertools.cycle([torch.randperm(nodes, generator=draw)[:BATCH] for _ in range(WARMUP + REPEATS)])
