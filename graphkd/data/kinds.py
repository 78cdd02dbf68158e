"""Graphs of every kind that `distill` takes: one graph, one of several kinds of nodes, or a set of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphkd.data.graph import REFUSED, Graph, as_edges, check_fields
from graphkd.data.reads import GraphSet, Hetero
from kdlosses.options import nearest

Describe = Callable[[Any], Any]
_OF_EDGES = ("edge_weight", *REFUSED)


def as_graph(
    data: Any,
    unlabelled: Literal["raise", "keep"] = "raise",
    *,
    target: str | None = None,
    descriptors: Describe | None = None,
    task: str | None = None,
) -> Graph:
    """Convert any data that a teacher can learn from to a `Graph` of what is predicted.

    Args:
        data: what `Graph.of` takes; a PyG `HeteroData`; or a list of PyG `Data` or a dataset of these, of which each
            graph has a target.
        unlabelled: see `Graph.of`.
        target: of a `HeteroData`: the kind of nodes that is predicted.
        descriptors: of a set of graphs: `(data) -> numbers (D,)`, what the student sees of one; `describe` if not
            given.
        task: `single-label`, `multi-label` or `regression`; by the targets if not given, see `Graph.of`.

    Raises:
        KeyError: the target is no kind of nodes.
        ValueError: data and options do not fit together, see `Graph.of`.

    >>> triangle, path = ([[0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]], [[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> each = [SimpleNamespace(x=torch.ones(3, 1), edge_index=e, y=y) for y, e in enumerate([path, triangle])]
    >>> as_graph(each).x.shape
    torch.Size([2, 8])
    """
    if _is_dataset(data) and len(data) == 1:
        data = data[0]
    several = not _is_dataset(data) and hasattr(data, "node_types") and hasattr(data, "edge_types")
    graphs = not several and _is_list(data)
    if target is not None and not several:
        raise ValueError(f"target={target!r} is for a HeteroData, the data are a {type(data).__name__}")
    if descriptors is not None and not graphs:
        raise ValueError(f"descriptors are of a list of graphs, the data are a {type(data).__name__}")
    if several:
        return _of_hetero(data, target, unlabelled, task)
    if descriptors is not None and not callable(descriptors):
        raise TypeError(f"descriptors is a function of a graph that returns numbers (D,), got {descriptors!r}")
    if graphs:
        return _of_graphs(data, descriptors, unlabelled, task)
    return Graph.of(data, unlabelled, task)


def _is_list(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return True
    if _is_dataset(data):
        return True
    if isinstance(data, Mapping | np.ndarray | str) or hasattr(data, "edge_index") or hasattr(data, "x"):
        return False
    several = hasattr(data, "__getitem__") and hasattr(data, "__len__") and len(data) > 0  # a Subset, for example
    return several and hasattr(data[0], "edge_index")


def _is_dataset(data: Any) -> bool:
    """Whether this is a dataset of PyG, which also has the fields of all its graphs joined."""
    return all(callable(getattr(data, name, None)) for name in ("get", "indices", "__getitem__", "__len__"))


def describe(graphs: GraphSet) -> Tensor:
    r"""Features `(G, 3 F + 5)` of graphs that need no edge at prediction but the degrees.

    Mean, sum and maximum of the features of their nodes; numbers of nodes and of edges; mean, standard deviation and
    maximum of the degrees. What grows with the graph, all but the means of features and their maxima, is $\mathrm{sign}
    (v) \log(1 + |v|)$ of itself.
    """
    size = torch.bincount(graphs.batch, minlength=graphs.count).clamp_min(1)[:, None]
    total = torch.zeros(graphs.count, graphs.x.shape[1]).index_add_(0, graphs.batch, graphs.x)
    high = torch.full_like(total, -torch.inf).scatter_reduce_(
        0, graphs.batch[:, None].expand_as(graphs.x), graphs.x, "amax"
    )
    degree = torch.bincount(graphs.edge_index[1], minlength=len(graphs.batch)).float()[:, None]
    edges = torch.zeros(graphs.count, 1).index_add_(0, graphs.batch, degree)
    mean = edges / size
    square = torch.zeros(graphs.count, 1).index_add_(0, graphs.batch, (degree - mean[graphs.batch]).square())
    most = torch.zeros(graphs.count, 1).scatter_reduce_(0, graphs.batch[:, None], degree, "amax")
    grows = torch.cat([total, size, edges, mean, (square / size).sqrt(), most], 1)
    return torch.cat([total / size, high, grows.sign() * grows.abs().log1p()], 1)


def graph_set(x: Tensor, edge_index: Tensor, batch: Tensor, y: Any, task: str | None = None, **more: Any) -> Graph:
    """A `Graph` of graphs side by side, with their `describe` as features; `more` are other fields that it may have."""
    members = GraphSet(x, edge_index, batch, int(batch.max()) + 1)
    return _with(members, describe(members), y, "raise", task, **more)


def _of_graphs(data: Any, descriptors: Describe | None, unlabelled: Any, task: str | None) -> Graph:
    parts = [data[place] for place in range(len(data))]
    if not parts:
        raise ValueError("the list of graphs is empty")
    xs: list[Tensor] = []
    ends: list[Tensor] = []
    sizes: list[int] = []
    targets: list[Tensor] = []
    own: list[np.ndarray] = []
    for place, part in enumerate(parts):
        for key in ("x", "edge_index", "y"):
            if getattr(part, key, None) is None:
                hint = ": let the dataset's transform add it, as T.OneHotDegree does" if key == "x" else ""
                raise ValueError(f"graph {place} has no {key!r}; expected x (n, F), edge_index (2, E) and y{hint}")
        for key in _OF_EDGES:
            if getattr(part, key, None) is not None:
                raise ValueError(f"graph {place} has {key}, which is not supported for sets of graphs; remove {key}")
        x, edges = torch.as_tensor(part.x).float(), as_edges(part.edge_index)
        if x.ndim != 2 or not len(x) or (xs and x.shape[1] != xs[0].shape[1]):
            wide = f"{xs[0].shape[1]}" if xs else "F"
            raise ValueError(f"graph {place} has features {tuple(x.shape)}; expected (n, {wide}), n at least 1")
        if (wrong := _outside(edges, len(x))) is not None:
            raise ValueError(f"graph {place} has an edge with node {wrong}, but its nodes are 0 to {len(x) - 1}")
        if not x.isfinite().all():
            raise ValueError(f"graph {place} has features that are NaN or infinite; impute or drop them first")
        xs.append(x)
        ends.append(edges + sum(sizes))
        sizes.append(len(x))
        targets.append(_target(part.y, place, len(targets[0]) if targets else None))
        if descriptors is not None:
            own.append(_described(descriptors, part, place, len(own[0]) if own else None))
    check_fields(parts[0], sizes[0], ends[0].shape[1])
    members = GraphSet(
        torch.cat(xs), torch.cat(ends, 1), torch.arange(len(xs)).repeat_interleave(torch.tensor(sizes)), len(xs)
    )
    x = describe(members) if descriptors is None else torch.from_numpy(np.stack(own))
    y = torch.stack(targets)
    return _with(members, x, y[:, 0] if y.shape[1] == 1 else y, unlabelled, task)


def _outside(ends: Tensor, nodes: int) -> int | None:
    """A node that edges name and that there is not."""
    wrong = ends[(ends < 0) | (ends >= nodes)]
    return int(wrong[0]) if len(wrong) else None


def _described(descriptors: Describe, part: Any, place: int, width: int | None) -> np.ndarray:
    given = descriptors(part)
    try:
        found = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"descriptors of graph {place} are no numbers (D,): {error}") from error
    if found.ndim != 1 or not len(found) or width not in (None, len(found)) or not np.isfinite(found).all():
        raise ValueError(
            f"descriptors of graph {place} are {given!r}; expected finite numbers ({width or 'D'},), as many of each"
        )
    return found


def _target(y: Any, place: int, width: int | None) -> Tensor:
    try:
        found = torch.as_tensor(y).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"graph {place} has the target {y!r}; expected a number, or several") from None
    if not len(found) or width not in (None, len(found)):
        raise ValueError(f"graph {place} has targets {tuple(torch.as_tensor(y).shape)}; expected as many as the first")
    return found


def _of_hetero(data: Any, target: str | None, unlabelled: Any, task: str | None) -> Graph:
    kinds = list(data.node_types)
    if target is None:
        raise ValueError(
            "of a graph with several kinds of nodes take data.to_homogeneous(), or say which is predicted: target= one "
            f"of {kinds}"
        )
    if target not in kinds:
        raise KeyError(f"the graph has no nodes {target!r}; {nearest(target, kinds)}")
    x = {}
    for kind in kinds:
        given = getattr(data[kind], "x", None)
        if given is None:
            raise ValueError(
                f"the nodes {kind!r} have no features: give them some, as data[{kind!r}].x = torch.ones(n, 1)"
            )
        x[kind] = (given.to_dense() if isinstance(given, Tensor) else torch.as_tensor(given)).float()
        if x[kind].ndim != 2 or not x[kind].isfinite().all():
            raise ValueError(f"the nodes {kind!r} have features {tuple(x[kind].shape)}; expected finite numbers (N, F)")
    edges = {}
    for kind in data.edge_types:
        store = data[kind]
        for key in _OF_EDGES:
            if getattr(store, key, None) is not None:
                raise ValueError(
                    f"the edges {kind} have {key}, which is not supported with several kinds of nodes; remove it"
                )
        if getattr(store, "edge_index", None) is None:
            hint = ", not adj_t" if getattr(store, "adj_t", None) is not None else ""
            raise ValueError(f"the edges {kind} have no edge_index; expected edge_index (2, E){hint}")
        found = as_edges(store.edge_index)
        for row, end in enumerate((kind[0], kind[2])):
            if (wrong := _outside(found[row], len(x[end]))) is not None:
                raise ValueError(
                    f"the edges {kind} name node {wrong}, but the nodes {end!r} are 0 to {len(x[end]) - 1}"
                )
        edges[tuple(kind)] = found
    if not any(kind[2] == target and found.numel() for kind, found in edges.items()):
        raise ValueError(
            f"no edge leads to {target!r}, so a teacher would learn nothing: T.ToUndirected() adds the reverse"
        )
    store = data[target]
    more = {key: value for key, value in store.items() if key not in ("x", "y", "edge_index")}
    return _with(Hetero(x, edges, target), x[target], getattr(store, "y", None), unlabelled, task, **more)


def _with(reads: Any, x: Tensor, y: Any, unlabelled: Any, task: str | None, **more: Any) -> Graph:
    rows = SimpleNamespace(x=x, y=y, edge_index=torch.zeros(2, 0, dtype=torch.long), **more)
    graph = Graph.of(rows, unlabelled, task)
    return Graph(**{**vars(graph), "reads": reads})
