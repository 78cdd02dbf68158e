"""The graph that everything here works on, checked once where it comes in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphkd.data.split import Split
from graphkd.features import compact, rows


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes with features and labels, and directed edges between them.

    Attributes:
        x: features `(N, F)`, float; sparse CSR where few differ from 0.
        edge_index: `(2, E)`, source above target, as in PyG.
        y: labels `(N,)`, 0 to `num_classes` - 1.
        num_classes: number of classes C.
        node_id: `(N,)`, where each node stood in the graph that this one was taken from.
        split: the one that the graph came with, if it did; a subgraph has none.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor
    num_classes: int
    node_id: Tensor
    split: Split | None = None

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, data: Any) -> Graph:
        """Check a PyG `Data`, or anything with `x`, `edge_index` and `y`, and take it over.

        Raises:
            ValueError: a part is missing, sizes differ, a feature is not finite, an edge or a label is out of range.

        >>> from types import SimpleNamespace
        >>> Graph.of(SimpleNamespace(x=torch.ones(2, 1), y=torch.tensor([0, 1]), edge_index=torch.tensor([[0], [2]])))
        Traceback (most recent call last):
        ValueError: edge 0 joins nodes 0 and 2, but the graph has the nodes 0 to 1
        """
        if isinstance(data, cls):
            return data
        for key in ("x", "edge_index", "y"):
            if not isinstance(getattr(data, key, None), Tensor):
                raise ValueError(f"the graph has no tensor {key!r}; expected x (N, F), edge_index (2, E) and y (N,)")
        x, edge_index, y = data.x.float(), data.edge_index.long(), data.y.squeeze()
        if x.ndim != 2 or y.shape != x.shape[:1]:
            raise ValueError(f"expected features (N, F) and labels (N,), got {tuple(x.shape)} and {tuple(y.shape)}")
        if edge_index.ndim != 2 or len(edge_index) != 2:
            raise ValueError(f"expected edge_index (2, E), got {tuple(edge_index.shape)}")
        _check_features(x)
        _check_edges(edge_index, len(y))
        num_classes = _check_labels(y, getattr(data, "num_classes", None))
        node_id = getattr(data, "node_id", None)
        return cls(compact(x), edge_index, y.long(), num_classes, torch.arange(len(y)) if node_id is None else node_id)

    def subgraph(self, nodes: Tensor) -> Graph:
        """The graph induced on `nodes`, numbered in the order given."""
        place = torch.full((len(self),), -1)
        place[nodes] = torch.arange(len(nodes))
        ends = place[self.edge_index]
        kept = (ends >= 0).all(0)
        return Graph(rows(self.x, nodes), ends[:, kept], self.y[nodes], self.num_classes, self.node_id[nodes])

    def fingerprint(self) -> str:
        """Hash of features, edges and labels, the same however the edges are ordered."""
        digest = hashlib.blake2b(digest_size=16)
        x = self.x
        parts = (x.crow_indices(), x.col_indices(), x.values()) if x.layout is torch.sparse_csr else (x,)
        edges = (self.edge_index[0] * len(self) + self.edge_index[1]).sort().values
        for part in (*parts, edges, self.y):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.contiguous().numpy())
        return digest.hexdigest()


def _check_features(x: Tensor) -> None:
    bad = ~torch.isfinite(x.values() if x.layout is torch.sparse_csr else x)
    if bad.any():
        where = "" if x.layout is torch.sparse_csr else f", the first at node {int(bad.nonzero()[0, 0])}"
        raise ValueError(f"{int(bad.sum())} features are NaN or infinite{where}; impute or drop them first")


def _check_edges(edge_index: Tensor, nodes: int) -> None:
    bad = ((edge_index < 0) | (edge_index >= nodes)).any(0).nonzero()
    if len(bad):
        edge = int(bad[0])
        source, target = edge_index[:, edge].tolist()
        raise ValueError(f"edge {edge} joins nodes {source} and {target}, but the graph has the nodes 0 to {nodes - 1}")


def _check_labels(y: Tensor, num_classes: int | None) -> int:
    if y.is_floating_point() and not torch.equal(y, y.round()):
        raise ValueError(f"labels must be integers, got {y.dtype} with fractions")
    if not len(y):
        raise ValueError("the graph has no nodes")
    classes = int(y.max()) + 1 if num_classes is None else num_classes
    bad = ((y < 0) | (y >= classes)).nonzero()
    if len(bad):
        node = int(bad[0])
        raise ValueError(
            f"{len(bad)} labels are out of range, the first at node {node}: {int(y[node])}; expected 0 to {classes - 1}"
        )
    return classes
