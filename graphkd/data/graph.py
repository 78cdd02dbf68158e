"""The graph that everything here works on, checked once where it comes in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphkd.data.split import Split
from graphkd.features import compact, csr, rows


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes with features and labels, and directed edges between them.

    Attributes:
        x: features `(N, F)`, float; sparse CSR where few differ from 0.
        edge_index: `(2, E)`, source above target, as in PyG.
        y: labels `(N,)`, 0 to `num_classes` - 1; -1 where there is none.
        num_classes: number of classes C.
        node_id: `(N,)`, where each node stood in the graph that this one was taken from.
        split: the one that the graph came with, if it did, or a rule `(y, seed) -> Split`; a subgraph has none.
        texts: what is written about each node, if anything is.
        class_names: what the classes are called, if that is known.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor
    num_classes: int
    node_id: Tensor
    split: Split | Callable[[Tensor, int], Split] | None = None
    texts: tuple[str, ...] | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, data: Any, unlabelled: Literal["raise", "keep"] = "raise") -> Graph:
        """Check a PyG `Data`, or anything with `x`, `edge_index` and `y`, and take it over.

        Args:
            data: its features may be a tensor, dense or sparse in any layout, an array or a scipy matrix; edges and
                labels tensors or arrays of integers. A `Graph` is returned as it is.
            unlabelled: what to do about nodes whose label is -1 or NaN: they may be kept as nodes without a label,
                which are in no split.

        Raises:
            ValueError: a part is missing or of a wrong kind, sizes differ, a feature is not finite, an edge or a label
                is out of range.

        >>> from types import SimpleNamespace
        >>> Graph.of(SimpleNamespace(x=torch.ones(2, 1), y=torch.tensor([0, 1]), edge_index=torch.tensor([[0], [2]])))
        Traceback (most recent call last):
        ValueError: edge 0 joins nodes 0 and 2, but the graph has the nodes 0 to 1
        """
        if isinstance(data, cls):
            return data
        for key in ("x", "edge_index", "y"):
            if getattr(data, key, None) is None:
                hint = ", not adj_t" if key == "edge_index" and getattr(data, "adj_t", None) is not None else ""
                raise ValueError(
                    f"the graph has no tensor {key!r}; expected x (N, F), edge_index (2, E) and y (N,){hint}"
                )
        x, edge_index, y = _as_features(data.x), as_edges(data.edge_index), _as_labels(data.y)
        if x.ndim != 2 or not x.shape[1] or y.shape != x.shape[:1]:
            hint = "; of one-hot labels take y.argmax(1)" if y.ndim == 2 else ""
            raise ValueError(
                f"expected features (N, F) and labels (N,), got {tuple(x.shape)} and {tuple(y.shape)}{hint}"
            )
        _check_features(x)
        _check_edges(edge_index, len(y))
        y, num_classes = _check_labels(y, getattr(data, "num_classes", None), unlabelled)
        node_id = getattr(data, "node_id", None)
        return cls(compact(x), edge_index, y, num_classes, torch.arange(len(y)) if node_id is None else node_id)

    def subgraph(self, nodes: Tensor) -> Graph:
        """The graph induced on `nodes`, numbered in the order given."""
        place = torch.full((len(self),), -1)
        place[nodes] = torch.arange(len(nodes))
        ends = place[self.edge_index]
        kept = (ends >= 0).all(0)
        return Graph(
            rows(self.x, nodes),
            ends[:, kept],
            self.y[nodes],
            self.num_classes,
            self.node_id[nodes],
            texts=None if self.texts is None else tuple(self.texts[node] for node in nodes.tolist()),
            class_names=self.class_names,
        )

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


def as_edges(edge_index: Any) -> Tensor:
    """Edges `(2, E)` of integers as such a tensor, from a tensor or an array.

    Raises:
        ValueError: it is something else, or of another shape.
    """
    if getattr(edge_index, "layout", torch.strided) is not torch.strided or hasattr(edge_index, "tocoo"):
        raise ValueError("edge_index is a sparse matrix; expected the places of its entries, (2, E)")
    found = _as_tensor("edge_index", edge_index)
    if found.ndim != 2 or len(found) != 2:
        hint = "; pass edge_index.T" if found.ndim == 2 and found.shape[1] == 2 else ""
        raise ValueError(f"expected edge_index (2, E), got {tuple(found.shape)}{hint}")
    if found.numel() and (found.is_floating_point() or found.is_complex() or found.dtype is torch.bool):
        raise ValueError(f"edge_index holds node numbers, which are integers; got {found.dtype}")
    return found.long()


def _as_features(x: Any) -> Tensor:
    """Features of any usual kind as a tensor of floats, dense or CSR."""
    if hasattr(x, "tocsr"):
        x = x.tocsr()
        return csr(
            torch.from_numpy(x.indptr).long(), torch.from_numpy(x.indices).long(), torch.from_numpy(x.data), x.shape[1]
        ).float()
    found = _as_tensor("x", x)
    if found.is_complex():
        raise ValueError(f"features are real numbers, got {found.dtype}")
    if found.layout is not torch.strided and found.ndim == 2:
        found = found.to_sparse_csr()
    return found.float()


def _as_labels(y: Any) -> Tensor:
    found = np.asarray(y) if not isinstance(y, Tensor) else y
    if isinstance(found, np.ndarray) and found.dtype.kind in "USO":
        raise ValueError(
            f"labels are numbers, got {found.ravel()[:1].tolist()}; number the names: "
            "y = torch.from_numpy(np.unique(names, return_inverse=True)[1])"
        )
    found = _as_tensor("y", found)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def _as_tensor(key: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value if type(value) is Tensor else value.as_subclass(Tensor)  # PyG has a subclass for edges
    array = np.asarray(value)
    try:
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except TypeError as error:
        raise ValueError(f"{key} is a {type(value).__name__}; expected a tensor or an array of numbers") from error


def _check_features(x: Tensor) -> None:
    sparse = x.layout is torch.sparse_csr
    bad = ~torch.isfinite(x.values() if sparse else x)
    if bad.any():
        place = int(bad.nonzero()[0, 0])
        node = int(torch.searchsorted(x.crow_indices(), place, right=True)) - 1 if sparse else place
        raise ValueError(
            f"{int(bad.sum())} features are NaN or infinite, the first at node {node}; impute or drop them first"
        )


def _check_edges(edge_index: Tensor, nodes: int) -> None:
    bad = ((edge_index < 0) | (edge_index >= nodes)).any(0).nonzero()
    if len(bad):
        edge = int(bad[0])
        source, target = edge_index[:, edge].tolist()
        raise ValueError(f"edge {edge} joins nodes {source} and {target}, but the graph has the nodes 0 to {nodes - 1}")


def _check_labels(y: Tensor, num_classes: int | None, unlabelled: str) -> tuple[Tensor, int]:
    """Labels as integers, and the number of classes."""
    if unlabelled not in ("raise", "keep"):
        raise ValueError(f"unlabelled is 'raise' or 'keep', not {unlabelled!r}")
    if not len(y):
        raise ValueError("the graph has no nodes")
    y = y.where(y == y, -1)  # NaN
    if y.is_complex() or (y.is_floating_point() and not torch.equal(y, y.round())):
        raise ValueError(f"labels must be integers, got {y.dtype} with fractions")
    y = y.long()
    classes = int(y.max()) + 1 if num_classes is None else num_classes
    bad = ((y < (-1 if unlabelled == "keep" else 0)) | (y >= classes)).nonzero()
    if len(bad):
        node = int(bad[0])
        hint = "; for nodes without a label see Graph.of(data, unlabelled='keep')" if y[node] == -1 else ""
        raise ValueError(
            f"{len(bad)} labels are out of range, the first at node {node}: {int(y[node])}; expected 0 to "
            f"{classes - 1}{hint}"
        )
    if classes < 2:
        raise ValueError("all labels are the same; a classifier needs two classes")
    return y, classes
