"""Nodes near others, and deletions that are drawn near what is tested or far from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphkd.spec import real
from graphkd.unlearning.links import Links
from graphkd.unlearning.nodes import Nodes
from kdlosses.options import check_known

_HOPS = 2


def near(nodes: Tensor, edge_index: Tensor, count: int, hops: int) -> Tensor:
    """Which of `count` nodes are at most so many hops from some nodes.

    >>> near(torch.tensor([0]), torch.tensor([[0, 1, 2], [1, 2, 3]]), 5, hops=2)
    tensor([ True,  True,  True, False, False])
    """
    found = torch.zeros(count, dtype=torch.bool).index_fill(0, nodes, True)
    source, target = edge_index
    for _ in range(hops):
        found = found.index_fill(0, target[found[source]], True)
    return found


def drawn(forget: Mapping[str, Any], task: Links | Nodes, seed: int) -> dict[str, Any]:
    """Draw what is to be forgotten, as arguments of `unlearn`.

    Args:
        forget: `dict(edges=share)` of the edges that were learned, with `where="out"` those alone of which no end is at
            most two hops from a test edge, with `where="in"` the others; `dict(nodes=share)` of the nodes that were
            learned; or `dict(classes=[...])`.
        task: what was learned.
        seed: of the draw.

    Raises:
        ValueError: it says something else, the share is no share, or there are not as many elements there.

    >>> task = Links(torch.ones(4, 1), torch.tensor([[0, 1, 2], [1, 2, 3]]))
    >>> drawn(dict(edges=0.4), task, seed=0)["edges"].shape
    torch.Size([2, 1])
    """
    forget = dict(forget)
    where = forget.pop("where", None)
    kind = next(iter(forget), None)
    check_known("forget", forget, ("edges",) if isinstance(task, Links) and where else ("edges", "nodes", "classes"))
    if len(forget) != 1 or kind is None:
        raise ValueError(f"forget names one of edges, nodes and classes, got {forget!r}")
    given = {"edges": None, "nodes": None, "classes": None}
    if kind == "classes":
        return {**given, "classes": forget["classes"]}
    share = real(f"forget: {kind}", forget[kind], below=1)
    learned = task.elements if kind == "edges" or isinstance(task, Nodes) else torch.arange(len(task.x))
    found = learned
    if where is not None:
        if where not in ("in", "out") or not isinstance(task, Links):
            raise ValueError(f"forget: where is 'in' or 'out', of edges alone; got {where!r}")
        close = near(task.held_out().flatten(), task.edge_index, len(task.x), _HOPS)[learned].any(0)
        found = learned[:, close if where == "in" else ~close]
    count, there = int(share * learned.shape[-1]), found.shape[-1]
    if not 0 < count <= there:
        raise ValueError(f"forget: {share} of {learned.shape[-1]} {kind} is {count}, of {there} that could be drawn")
    order = torch.randperm(there, generator=torch.Generator().manual_seed(seed))
    return {**given, kind: found[..., order[:count]]}
