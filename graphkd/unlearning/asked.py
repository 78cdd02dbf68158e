"""What is asked to be forgotten: checked, and taken out of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.data import Graph, Split, as_graph, undirected
from graphkd.data.graph import as_edges
from graphkd.links.distillation import link_graph
from graphkd.links.pairs import once, pair_keys
from graphkd.links.split import LinkSplit
from graphkd.pipeline.arguments import SplitSpec, chosen_split
from graphkd.sparse.rows import csr
from graphkd.unlearning.links import Links
from graphkd.unlearning.nodes import Nodes
from graphkd.unlearning.task import Task


@dataclass(frozen=True, eq=False)
class Asked:
    """A request that can be met.

    Attributes:
        before: what was learned.
        after: what is left of it.
        deleted: edges `(2, n)`, each once, or nodes `(n,)`: what `before` has and `after` has not.
        nodes: ids of the nodes that leave, with their features and labels.
        graph: what is left of the graph; nodes keep their numbers, those that left are empty rows.
        split: what is left of the split, if there is one.
    """

    before: Task
    after: Task
    deleted: Tensor
    nodes: Tensor
    graph: Graph
    split: Any

    def removed(self) -> dict[str, Any]:
        """The ids, for a report."""
        edges = self.deleted.T.tolist() if self.deleted.ndim == 2 else []
        return {"nodes": self.nodes.tolist(), "edges": edges}


def links_of(data: Any, split: LinkSplit | None, labels: bool = False) -> tuple[Graph, Links]:
    """A graph, and the edges of it that a model has learned from: those of a split, or all.

    Args:
        data: see `unlearn`.
        split: with the edges that the model has learned from, and those that it has not.
        labels: whether the graph needs classes of nodes.

    Raises:
        ValueError: there are no edges, or graph and split do not fit together.
    """
    x = getattr(data, "x", None)
    if x is not None and (x.shape[0] if hasattr(x, "shape") else len(x)) < 2:
        raise ValueError("the graph has fewer than two nodes, and so no edge: there is nothing to forget")
    graph = as_graph(data, "keep") if labels else link_graph(data)
    _check_graph(graph)
    if split is None:
        known = Links(graph.x, once(graph.edge_index))
    else:
        _check_split(split, graph)
        known = Links(graph.x, once(split.train), (split.val, split.val_none), (split.all_tested, split.test_none))
    if not known.elements.shape[1]:
        raise ValueError(f"the graph of {len(graph)} nodes has no edge to learn from: there is nothing to forget")
    return graph, known


def nodes_of(data: Any, split: SplitSpec | None, seed: int) -> tuple[Graph, Nodes]:
    """A graph, and the nodes of it that a model has learned from, see `links_of`; the split is as in `distill`."""
    graph = undirected(as_graph(data, "raise" if split is None else "keep"))
    _check_graph(graph)
    if graph.task != "single-label":
        raise ValueError(f"unlearning of nodes is for one class a node, the graph's task is {graph.task!r}")
    if not (graph.y >= 0).any():
        raise ValueError("no node of the graph has a label: a model of nodes learns from them")
    chosen = chosen_split(graph, split, seed)
    for part, ids in vars(chosen).items():
        if len(silent := ids[graph.y[ids] < 0]):
            raise ValueError(
                f"node {int(silent[0])} of the split's {part} part has no label; leave it out of the split"
            )
    return graph, Nodes(graph.x, graph.edge_index, graph.y, chosen, ~_empty(graph))


def forget_links(graph: Graph, before: Links, split: LinkSplit | None, edges: Any, nodes: Any, classes: Any) -> Asked:
    """Check which edges are to be forgotten, or all edges of nodes or classes, and take them out.

    Args:
        graph: see `links_of`.
        before: likewise.
        split: likewise.
        edges: see `unlearn`; one of the three, the others None.
        nodes: likewise.
        classes: likewise.

    Raises:
        ValueError: see `unlearn`.
    """
    known, gone = before.elements, _nodes(graph, nodes, classes)
    leaving = torch.isin(known, gone).any(0) if edges is None else _edges(edges, known, len(graph))
    if not leaving.any():
        raise ValueError("the nodes to delete have no edge that the model has learned from: there is nothing to forget")
    if leaving.all():
        raise ValueError(f"all {known.shape[1]} edges are to be deleted, and nothing would be left: delete the model")

    def left(pairs: Tensor) -> Tensor:
        return pairs[:, ~torch.isin(pairs, gone).any(0)]

    rest = _without(graph, gone, known[:, leaving])
    after = replace(before, elements=known[:, ~leaving])
    if split is not None:
        held_back = {"validation": (split.val, split.val_none), "test": (split.all_tested, split.test_none)}
        for part, pairs in held_back.items():
            if not all(left(each).shape[1] for each in pairs):
                raise ValueError(f"without the nodes to delete no edge of the {part} part would be left")
        split = replace(
            split,
            x=rest.x,
            train=after.elements,
            val=left(split.val),
            val_none=left(split.val_none),
            visible=_minus(left(split.visible), known[:, leaving], len(graph)),
            test={kind: left(pairs) for kind, pairs in split.test.items()},
            test_none=left(split.test_none),
        )
        chosen_by, tested_on = (split.val, split.val_none), (split.all_tested, split.test_none)
        before, after = (replace(each, chosen_by=chosen_by, tested_on=tested_on) for each in (before, after))
    return Asked(before, after, known[:, leaving], gone, rest, split)


def forget_nodes(graph: Graph, before: Nodes, nodes: Any, classes: Any) -> Asked:
    """Check which nodes are to be forgotten, or all nodes of classes, and take them out; see `forget_links`.

    Of deleted nodes that the model has not learned from, no label is read but the classes that are asked for.
    """
    gone = _nodes(graph, nodes, classes)
    if (again := gone[~before.present[gone]]).numel():
        raise ValueError(f"node {int(again[0])} has no edge, feature or label: there is nothing to forget")
    kept = {part: ids[~torch.isin(ids, gone)] for part, ids in vars(before.split).items()}
    for part, ids in kept.items():
        if not len(ids):
            raise ValueError(f"all {part} nodes of the split are to be deleted, and none would be left")
    split, edges = Split(**kept), graph.edge_index
    rest = replace(_without(graph, gone, edges[:, torch.isin(edges, gone).any(0)]), split=split)
    present = before.present.index_fill(0, gone, False)
    told = torch.zeros_like(present) if classes is None else torch.isin(graph.y, torch.as_tensor(classes))
    hidden = gone[~torch.isin(gone, before.split.train) & ~told[gone]]
    before = replace(before, y=before.y.index_fill(0, hidden, -1), split=replace(split, train=before.split.train))
    after = replace(before, edge_index=rest.edge_index, split=split, present=present)
    return Asked(before, after, gone, gone, rest, split)


def _check_graph(graph: Graph) -> None:
    if graph.edge_weight is not None or graph.reads is not None:
        raise ValueError("unlearning is for one plain graph without edge_weight; remove the weights")


def _check_split(split: LinkSplit, graph: Graph) -> None:
    if not isinstance(split, LinkSplit):
        raise TypeError(f"the split of links is a LinkSplit, see split_links; got a {type(split).__name__}")
    if len(split.seen) != len(graph) or len(split.x) != len(graph):
        raise ValueError(
            f"the split sees {len(split.seen)} of {len(split.x)} nodes, the graph has {len(graph)}: take one in which "
            "all are seen, split_links(data, 'tran')"
        )


def _nodes(graph: Graph, nodes: Any, classes: Any) -> Tensor:
    """Ids of the nodes that are to leave."""
    if classes is not None:
        if graph.task != "single-label":
            raise ValueError(f"classes is for graphs with one class a node, this graph's task is {graph.task!r}")
        wanted = _ids("classes", classes, graph.num_classes)
        for each in wanted.tolist():
            if not (graph.y == each).any():
                raise ValueError(f"class {each} has no nodes in the graph: there is nothing to delete")
        return torch.isin(graph.y, wanted).nonzero().flatten()
    return torch.zeros(0, dtype=torch.long) if nodes is None else _ids("nodes", nodes, len(graph)).sort().values


def _ids(what: str, given: Any, count: int) -> Tensor:
    """Different numbers from 0 to `count` - 1."""
    try:
        found = torch.as_tensor(given).detach().cpu()
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{what} is a list of ids, which are integers; got {given!r}") from error
    if found.ndim != 1 or found.is_floating_point() or found.is_complex() or found.dtype is torch.bool:
        if not found.numel():
            raise ValueError(f"{what} is empty: name at least one")
        raise TypeError(f"{what} is a list of ids, which are integers; got {found.dtype} {tuple(found.shape)}")
    if not len(found):
        raise ValueError(f"{what} is empty: name at least one")
    found = found.long()
    if len(strange := found[(found < 0) | (found >= count)]):
        raise ValueError(f"{what} names {int(strange[0])}, but the graph has {what} 0 to {count - 1}")
    if len(twice := _repeated(found)):
        raise ValueError(f"{what} names {int(twice[0])} twice")
    return found


def _edges(given: Any, known: Tensor, nodes: int) -> Tensor:
    """Which of the known edges are to leave."""
    try:
        pairs = as_edges(given if isinstance(given, Tensor | np.ndarray) else _turned(given))
    except ValueError as error:
        raise ValueError(f"edges: {error}") from error
    if not pairs.shape[1]:
        raise ValueError("edges is empty: name at least one")
    if len(strange := pairs[(pairs < 0) | (pairs >= nodes)]):
        raise ValueError(f"edges names node {int(strange[0])}, but the graph has the nodes 0 to {nodes - 1}")
    if len(twice := _repeated(pairs[0] * nodes + pairs[1])):
        raise ValueError(f"edges names {_pair(int(twice[0]), nodes)} twice")
    asked = pair_keys(pairs, nodes)
    there = pair_keys(known, nodes)
    if len(unknown := asked[~torch.isin(asked, there)]):
        raise ValueError(
            f"edges names {_pair(int(unknown[0]), nodes)}, which is none of the {known.shape[1]} edges that the model "
            "has learned from"
        )
    return torch.isin(there, asked)


def _turned(given: Any) -> Any:
    """Edges `(2, n)` from a list of pairs."""
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given):
        try:
            return np.asarray(given).reshape(len(given), 2).T
        except ValueError:
            pass
    elif isinstance(given, Sequence) and not len(given):
        return np.zeros((2, 0), dtype=np.int64)
    raise TypeError("edges is a tensor or an array (2, n), or a list of pairs [(0, 1), ...]")


def _repeated(ids: Tensor) -> Tensor:
    found, count = ids.unique(return_counts=True)
    return found[count > 1]


def _pair(code: int, nodes: int) -> str:
    return f"{code // nodes}-{code % nodes}"


def _minus(pairs: Tensor, gone: Tensor, nodes: int) -> Tensor:
    return pairs[:, ~torch.isin(pair_keys(pairs, nodes), pair_keys(gone, nodes))]


def _empty(graph: Graph) -> Tensor:
    """Which nodes have no edge, no feature and no label."""
    linked = torch.zeros(len(graph), dtype=torch.bool)
    linked[graph.edge_index.flatten()] = True
    dense = graph.x.layout is torch.strided
    said = (graph.x != 0).any(1) if dense else graph.x.crow_indices().diff() > 0
    return ~linked & ~said & (graph.y == -1)


def _without(graph: Graph, nodes: Tensor, edges: Tensor) -> Graph:
    """The graph without these edges, and with empty rows for these nodes."""
    x, y, texts = graph.x, graph.y, graph.texts
    index = _minus(graph.edge_index, edges, len(graph))
    if len(nodes):
        stays = torch.ones(len(graph), dtype=torch.bool).index_fill(0, nodes, False)
        index = index[:, stays[index].all(0)]
        if x.layout is torch.strided:
            x = x.masked_fill(~stays[:, None], 0)
        else:
            count = x.crow_indices().diff()
            of_entry = stays.repeat_interleave(count)
            crow = torch.cat([count.new_zeros(1), (count * stays).cumsum(0)])
            x = csr(crow, x.col_indices()[of_entry], x.values()[of_entry], x.shape[1])
        y = y.clone()
        y[nodes] = -1 if not y.is_floating_point() else torch.nan
        texts = None if texts is None else tuple(text if stays[i] else "" for i, text in enumerate(texts))
    return replace(graph, x=x, edge_index=index, y=y, texts=texts)


def only_one(given: Mapping[str, Any]) -> str:
    """The name of the one argument that is given; raise ValueError if there is none, or more than one."""
    found = [name for name, value in given.items() if value is not None]
    if len(found) != 1:
        raise ValueError(
            f"name what is to be forgotten by one of {', '.join(given)}, got {' and '.join(found) or 'none of them'}"
        )
    return found[0]
