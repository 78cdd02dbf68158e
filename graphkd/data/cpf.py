"""The preparation and the splits of the CPF protocol, on which the GNN-to-MLP literature reports.

Yang, Liu, Shi, "Extract the Knowledge of Graph Neural Networks and Go Beyond it", 2021.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkd.data.graph import Graph
from graphkd.data.reads import GraphSet
from graphkd.data.split import PARTS, Split
from graphkd.data.targets import known
from graphkd.extras import needs_extra
from graphkd.sparse.order import sorted_both_ways


def prepare(data: Any) -> Graph:
    """Make a graph undirected, drop self-loops and duplicate edges, and keep its largest connected component.

    Nodes keep their order; `node_id` holds where they stood. Features are left as they are. A split that the graph came
    with keeps the nodes of the component; a warning counts those that are lost.
    """
    with needs_extra("graphkd.data.prepare"):
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
    graph = undirected(Graph.of(data))
    if not graph.edge_index.shape[1]:
        raise ValueError("the graph has no edges: its largest component would be a single node")
    source, target = graph.edge_index.numpy()
    adjacency = coo_array((np.ones(len(source), dtype=bool), (source, target)), shape=(len(graph), len(graph)))
    component = connected_components(adjacency.tocsr(), directed=False)[1]
    largest = np.bincount(component).argmax()
    kept = component == largest
    if isinstance(graph.split, Split):
        lost = {part: int((~kept[getattr(graph.split, part).numpy()]).sum()) for part in PARTS}
        if any(lost.values()):
            counts = ", ".join(f"{count} {part}" for part, count in lost.items() if count)
            warnings.warn(f"dropped nodes of the split outside of the largest component: {counts}", stacklevel=2)
    return graph.subgraph(torch.from_numpy(np.flatnonzero(kept)))


def one_way(graph: Graph) -> int:
    """Number of edges without a reverse edge.

    >>> from types import SimpleNamespace
    >>> one_way(Graph.of(SimpleNamespace(x=[[1], [2], [3]], y=[0, 1, 1], edge_index=[[0, 1, 1, 2], [1, 0, 2, 2]])))
    1
    """
    source, target = graph.edge_index[:, graph.edge_index[0] != graph.edge_index[1]]
    edges = (source * len(graph) + target).unique()
    pairs = (torch.minimum(source, target) * len(graph) + torch.maximum(source, target)).unique()
    return 2 * len(pairs) - len(edges)


def undirected(graph: Graph) -> Graph:
    """Return the graph with every edge in both directions, without duplicates and self-loops.

    The weight of a pair is the mean of the weights of its edges, in either direction, so that a graph whose weights are
    symmetric keeps them.
    """
    source, target = graph.edge_index
    apart = source != target
    low, high = torch.minimum(source, target)[apart], torch.maximum(source, target)[apart]
    codes = low * len(graph) + high
    pair = codes.unique()
    low, high = pair // len(graph), pair % len(graph)
    edges = torch.stack([torch.cat([low, high]), torch.cat([high, low])])
    weight = graph.edge_weight
    if weight is not None:
        place = torch.searchsorted(pair, codes)
        total = torch.zeros(len(pair), dtype=torch.float64).index_add_(0, place, weight[apart].double())
        weight = (total / torch.bincount(place, minlength=len(pair))).float().repeat(2)
    return replace(graph, edge_index=edges, edge_weight=weight)


def sorted_undirected(graph: Graph) -> Graph:
    """`undirected` for large graphs: edges sorted by target, then by source, and left where they are if they are so.

    >>> from types import SimpleNamespace
    >>> graph = Graph.of(SimpleNamespace(x=[[1], [2], [3]], y=[0, 1, 1], edge_index=[[2, 0], [0, 1]]))
    >>> sorted_undirected(graph).edge_index
    tensor([[1, 2, 0, 0],
            [0, 0, 1, 2]])
    """
    source, target = graph.edge_index.numpy()
    nodes = len(graph)
    if sorted_both_ways(source, target, nodes):
        return graph
    apart = source != target
    low, high = np.minimum(source, target)[apart], np.maximum(source, target)[apart]
    pair = np.unique(low * nodes + high)
    del low, high, apart
    keys = np.concatenate([pair, pair % nodes * nodes + pair // nodes])
    keys.sort()
    edges = np.empty((2, len(keys)), np.int64)
    np.divmod(keys, nodes, out=(edges[1], edges[0]))
    return replace(graph, edge_index=torch.from_numpy(edges))


def cpf_split(y: Tensor, seed: int, train_per_class: int = 20, val_per_class: int = 30) -> Split:
    """Draw 20 training and 30 validation nodes a class; all other nodes are the test set.

    One `numpy.random.RandomState(seed)` draws all training nodes, class by class, and then all validation nodes. Nodes
    without a label, -1, are in no part.

    Raises:
        ValueError: a class has too few nodes.

    >>> split = cpf_split(torch.arange(120) % 2, seed=0)
    >>> len(split.train), len(split.val), len(split.test)
    (40, 60, 20)
    """
    state, labels = np.random.RandomState(seed), y.numpy()
    free = np.ones(len(labels), dtype=bool)

    def draw(count: int) -> Tensor:
        drawn = []
        for label in range(int(labels.max()) + 1):
            pool = np.flatnonzero((labels == label) & free)
            if len(pool) < count:
                size = int((labels == label).sum())
                raise ValueError(
                    f"class {label} has {size} nodes; the split needs {train_per_class} to train and {val_per_class} "
                    "to select"
                )
            drawn.append(state.choice(pool, count, replace=False))
        ids = np.concatenate(drawn)
        free[ids] = False
        return torch.from_numpy(ids)

    train, val = draw(train_per_class), draw(val_per_class)
    return Split(train, val, torch.from_numpy(np.flatnonzero(free & (labels >= 0))))


def share_split(y: Tensor, seed: int, train: float = 0.6, val: float = 0.2) -> Split:
    """Draw shares of the labelled nodes for training and validation; the others are the test set.

    `numpy.random.RandomState(seed)` permutes them. Nodes without a label, -1, are in no part.

    >>> split = share_split(torch.arange(10) % 2, seed=0)
    >>> len(split.train), len(split.val), len(split.test)
    (6, 2, 2)
    """
    if not (train > 0 and val > 0 and train + val < 1):
        raise ValueError(f"shares to train and to select must leave some for the test, got {train} and {val}")
    order = torch.from_numpy(np.random.RandomState(seed).permutation(known(y).nonzero().flatten().numpy()))
    first, second = (round(share * len(order)) for share in (train, train + val))
    return Split(order[:first], order[first:second], order[second:])


SPLITS = {"cpf": cpf_split, "shares": share_split}
"""Rules by name, for configs."""


def split_of(graph: Graph, seed: int) -> Split:
    """The split of the graph, drawn by its rule if it is one.

    If the graph has none, by `cpf_split`; of a set of graphs, of several labels and of numbers by `share_split`.

    Raises:
        ValueError: the graph came with masks of several splits, or of a part; or a class has too few nodes to draw.
    """
    if isinstance(graph.split, Split):
        return graph.split
    shares = graph.task != "single-label" or isinstance(graph.reads, GraphSet)
    return (graph.split or (share_split if shares else cpf_split))(graph.y, seed)
