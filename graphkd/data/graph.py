"""The graph class of this package; its input is checked once, on construction."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphkd.data.reads import Reads
from graphkd.data.split import PARTS, Masks, Split, as_split, mask_of
from graphkd.data.targets import check_targets, task_of_targets
from graphkd.sparse.order import keys_by_target, sorted_both_ways
from graphkd.sparse.rows import compact, csr, rows

_MASKS = {part: tuple(f"{name}_mask" for name in ((part, "valid") if part == "val" else (part,))) for part in PARTS}
_IDS = [
    {part: tuple(f"{name}_{kind}" for name in ((part, "valid") if part == "val" else (part,))) for part in PARTS}
    for kind in ("idx", "index", "indices", "ids", "nodes")
]
"""What a container may call the node ids of its parts."""
_SPLITS = ("split", "split_idx")
REFUSED = {
    "edge_attr": "if it is one weight an edge, pass it as edge_weight",
    "edge_type": "keep the edges of one type, or drop their types",
    "edge_time": "keep the edges of the time wanted, or drop their times",
}
"""Fields that say what an edge means: a result without them would be that of another graph."""
_OF_SPLITS = {*_SPLITS, *sum((name for names in (_MASKS, *_IDS) for name in names.values()), ())}
_READ = {"x", "edge_index", "y", "num_classes", "node_id", "edge_weight", *REFUSED, *_OF_SPLITS}
_HARMLESS = {"num_nodes", "batch", "ptr", "n_id", "e_id", "input_id"}


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes with features and labels, and directed edges between them.

    Attributes:
        x: features `(N, F)`, float; sparse CSR where few differ from 0.
        edge_index: `(2, E)`, source above target, as in PyG.
        y: labels `(N,)`, 0 to `num_classes` - 1; -1 where there is none. Of other tasks `(N, L)` of 0 and 1, or
            `(N, T)` of floats, NaN where there are none.
        num_classes: number of classes C, of labels L or of numbers T.
        node_id: `(N,)`, where each node stood in the graph that this one was taken from.
        split: the one that the graph came with, if it did, or a rule `(y, seed) -> Split`; the `Masks` of several, or
            of a part, are a rule. A subgraph has what is left of it; a rule stays.
        texts: what is written about each node, if anything is.
        class_names: what the classes are called, if that is known.
        edge_weight: `(E,)`, from 0; None where all edges count the same.
        named: the labels came as names, `class_names`, and a student is to answer with these.
        task: what `y` is: `single-label`, `multi-label` or `regression`.
        reads: what a teacher reads where the rows are not the nodes of one plain graph; `edge_index` is empty then.

    Raises:
        ValueError: `node_id` or `edge_weight` is of another length.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor
    num_classes: int
    node_id: Tensor
    split: Split | Callable[[Tensor, int], Split] | None = None
    texts: tuple[str, ...] | None = None
    class_names: tuple[str, ...] = ()
    edge_weight: Tensor | None = None
    named: bool = False
    task: str = "single-label"
    reads: Reads | None = None

    def __post_init__(self) -> None:
        if self.node_id.shape != self.y.shape[:1]:
            raise ValueError(f"node_id is {tuple(self.node_id.shape)}; expected one id for each of {len(self.y)} nodes")
        if self.edge_weight is not None and self.edge_weight.shape != self.edge_index.shape[1:]:
            raise ValueError(
                f"edge_weight is {tuple(self.edge_weight.shape)}; expected one weight for each of "
                f"{self.edge_index.shape[1]} edges"
            )

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, data: Any, unlabelled: Literal["raise", "keep"] = "raise", task: str | None = None) -> Graph:
        """Build a graph from a PyG `Data`, or anything with `x`, `edge_index` and `y`, and check it.

        Masks `train_mask`, `val_mask` (or `valid_mask`) and `test_mask`, node ids called `train_idx`, `val_idx` (or
        `valid_idx`) and `test_idx`, or `_index`, `_indices`, `_ids` or `_nodes`, and whatever `as_split` takes, called
        `split` or `split_idx`, become the graph's `split`; of masks `(N, k)` one column is to be chosen later, see
        `Masks`. Fields that say what an edge means and that nothing here can use are refused by name; other tensors of
        nodes or edges are named in a warning.

        Args:
            data: its features may be a tensor, dense or sparse in any layout, an array or a scipy matrix; edges and
                labels tensors or arrays of integers. Labels may also be strings, which become `class_names` in sorted
                order. A `Graph` is returned as it is.
            unlabelled: what to do about nodes whose label is -1, NaN or, among strings, None or blank: they may be kept
                as nodes without a label, which are in no split. Where there are masks, nodes outside of them are kept.
            task: what the labels are; if not given, labels `(N, L)` of 0 and 1 are several labels a node, unless each
                node has exactly one, and floats with fractions are numbers to predict.

        Raises:
            ValueError: a part is missing or of a wrong kind, sizes differ, a feature is not finite, an edge or a label
                is out of range, masks overlap, or there is a field that cannot be used.

        >>> from types import SimpleNamespace
        >>> Graph.of(SimpleNamespace(x=torch.ones(2, 1), y=torch.tensor([0, 1]), edge_index=torch.tensor([[0], [2]])))
        Traceback (most recent call last):
        ValueError: edge 0 joins nodes 0 and 2, but the graph has the nodes 0 to 1
        """
        if isinstance(data, cls):
            if task not in (None, data.task):
                raise ValueError(f"task={task!r}, but the graph's is {data.task!r}")
            return data
        for key in ("x", "edge_index", "y"):
            if getattr(data, key, None) is None:
                hint = ", not adj_t" if key == "edge_index" and getattr(data, "adj_t", None) is not None else ""
                if hasattr(data, "node_types"):
                    hint = "; of a graph with several kinds of nodes take data.to_homogeneous(), or distill(target=)"
                raise ValueError(
                    f"the graph has no tensor {key!r}; expected x (N, F), edge_index (2, E) and y (N,){hint}"
                )
        x, edge_index = _as_features(data.x), as_edges(data.edge_index)
        y, names = _as_labels(data.y)
        task = task_of_targets(y, task)
        if x.ndim != 2 or not x.shape[1] or (y.shape if task == "single-label" else y.shape[:1]) != x.shape[:1]:
            hint = "; of one-hot labels take y.argmax(1), or pass task='multi-label'" if y.ndim == 2 else ""
            raise ValueError(
                f"expected features (N, F) and labels (N,), got {tuple(x.shape)} and {tuple(y.shape)}{hint}"
            )
        _check_features(x)
        _check_edges(edge_index, len(y))
        check_fields(data, len(y), edge_index.shape[1])
        masks, split = _masks(data, len(y)), _split(data, len(y))
        if isinstance(split, Split):
            if masks is not None:
                raise ValueError("the graph has a split and masks; drop one of them")
            ids = torch.cat([split.train, split.val, split.test])
            masks = Masks({"labelled": torch.zeros(len(y), 1, dtype=torch.bool).index_fill(0, ids, True)})
        else:
            split = masks and settled(masks)
        if masks is not None and unlabelled == "raise":
            silent = (y != y) | (y == -1)
            silent = silent if silent.ndim == 1 else silent.any(1)
            if not any(mask[silent].any() for mask in masks.parts.values()):
                unlabelled = "keep"
        if task != "single-label":
            y, num_classes = check_targets(y, task, unlabelled)
        else:
            count = getattr(data, "num_classes", None) if not names else len(names)
            y, num_classes = _check_labels(y, count, unlabelled)
        return cls(
            compact(x),
            edge_index,
            y,
            num_classes,
            _as_node_id(getattr(data, "node_id", None), len(y)),
            split=split,
            class_names=names or _class_names(getattr(data, "class_names", ()), num_classes),
            edge_weight=as_weights(getattr(data, "edge_weight", None), edge_index.shape[1]),
            named=bool(names),
            task=task,
        )

    def subgraph(self, nodes: Tensor) -> Graph:
        """The subgraph induced by `nodes`, numbered in the order given."""
        place = torch.full((len(self),), -1)
        place[nodes] = torch.arange(len(nodes))
        ends = place[self.edge_index]
        kept = (ends >= 0).all(0)
        return replace(
            self,
            x=rows(self.x, nodes),
            edge_index=ends[:, kept],
            y=self.y[nodes],
            node_id=self.node_id[nodes],
            split=_left(self.split, place, nodes),
            texts=None if self.texts is None else tuple(self.texts[node] for node in nodes.tolist()),
            edge_weight=None if self.edge_weight is None else self.edge_weight[kept],
            reads=None if self.reads is None else self.reads.take(nodes),
        )

    def fingerprint(self) -> str:
        """Hash of features, edges with their weights, and labels, independent of the order of the edges."""
        digest = hashlib.blake2b(digest_size=16)
        x = self.x
        parts = (x.crow_indices(), x.col_indices(), x.values()) if x.layout is torch.sparse_csr else (x,)
        weights: tuple[Tensor, ...] = ()
        if self.edge_weight is not None:
            edges = self.edge_index[0] * len(self) + self.edge_index[1]
            by_weight = self.edge_weight.argsort(stable=True)
            order = by_weight[edges[by_weight].argsort(stable=True)]
            weights = (self.edge_weight[order],)
        for part in parts:
            _hash(digest, part)
        digest.update(f"torch.int64({self.edge_index.shape[1]},)".encode())
        for keys in self._edge_keys():
            digest.update(keys.data)
        read = () if self.reads is None else tuple(self.reads.tensors())
        for part in (self.y, *weights, *read):
            _hash(digest, part)
        return digest.hexdigest()

    def _edge_keys(self) -> Iterable[np.ndarray]:
        """Edges as numbers in ascending order, in blocks; of large graphs that are in order nothing is sorted."""
        source, target = self.edge_index.numpy()
        if sorted_both_ways(source, target, len(self)):
            return keys_by_target(source, target, len(self))  # the same numbers as of their reverses
        return (np.sort(source * len(self) + target),)


def _hash(digest: Any, part: Tensor) -> None:
    digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
    digest.update(part.contiguous().numpy())


def as_edges(edge_index: Any) -> Tensor:
    """Convert edges `(2, E)` from a tensor or an array to an integer tensor.

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
        raise ValueError(f"features must be real numbers, got {found.dtype}")
    if found.layout is not torch.strided and found.ndim == 2:
        found = found.to_sparse_csr()
    return found.float()


def as_weights(weight: Any, edges: int) -> Tensor | None:
    """Convert edge weights `(E,)` from a tensor or an array to non-negative floats; None if all are 1.

    Raises:
        ValueError: they are of another length, negative or not finite.
    """
    if weight is None:
        return None
    found = _as_tensor("edge_weight", weight)
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.shape != (edges,) or found.is_complex():
        raise ValueError(
            f"edge_weight is {found.dtype} {tuple(found.shape)}; expected one number for each of {edges} edges"
        )
    found = found.float()
    bad = (~(found.isfinite() & (found >= 0))).nonzero()
    if len(bad):
        edge = int(bad[0])
        raise ValueError(f"edge_weight is {found[edge].item()} at edge {edge}; weights are finite and not negative")
    return None if (found == 1).all() else found


def settled(masks: Masks) -> Split | Masks:
    """Convert the masks of one complete split to a `Split`."""
    return masks.column(0) if len(masks) == 1 and len(masks.parts) == len(PARTS) else masks


def _masks(data: Any, nodes: int) -> Masks | None:
    parts = {}
    for part, names in _MASKS.items():
        given = [name for name in names if getattr(data, name, None) is not None]
        if len(given) > 1:
            raise ValueError(f"the graph has {' and '.join(given)}; drop one of them")
        if given:
            parts[part] = mask_of(given[0], getattr(data, given[0]), nodes)
    return Masks(parts) if parts else None


def _split(data: Any, nodes: int) -> Split | Masks | None:
    """The split of a container, from its field `split` or from the node ids of its parts."""
    found: dict[str, Any] = {}
    for name in _SPLITS:
        given = getattr(data, name, None)
        if isinstance(given, Split | Mapping | Sequence | Tensor | np.ndarray) and not isinstance(given, str | bytes):
            found[name] = given
    for names in _IDS:
        there = {
            part: [
                name for name in names[part] if isinstance(getattr(data, name, None), Sequence | Tensor | np.ndarray)
            ]
            for part in PARTS
        }
        if not any(there.values()):
            continue
        if any(len(each) != 1 for each in there.values()):
            given = ", ".join(name for each in there.values() for name in each)
            raise ValueError(
                f"the graph has {given}: of a split it needs each of train, val (or valid) and test, once; complete "
                f"it, or remove {given}"
            )
        found[there["train"][0]] = {part: getattr(data, each[0]) for part, each in there.items()}
    if len(found) > 1:
        raise ValueError(f"the graph has {' and '.join(found)}, which are splits; drop all but one")
    return as_split(next(iter(found.values())), nodes) if found else None


def is_split(field: str) -> bool:
    """Whether a field of a container defines part of its split."""
    return field in _OF_SPLITS


def _class_names(names: Any, classes: int) -> tuple[str, ...]:
    """Names of the classes, if these are as many strings."""
    found = tuple(names) if isinstance(names, list | tuple | np.ndarray) else ()
    return tuple(map(str, found)) if len(found) == classes and all(isinstance(each, str) for each in found) else ()


def _left(split: Any, place: Tensor, nodes: Tensor) -> Any:
    """What is left of a split among `nodes`, whose new ids stand in `place`; with an empty part it fails where used."""
    if isinstance(split, Masks):
        return split.take(nodes)
    if not isinstance(split, Split):
        return split
    parts = {part: place[getattr(split, part)] for part in PARTS}
    parts = {part: ids[ids >= 0] for part, ids in parts.items()}
    if all(len(ids) for ids in parts.values()):
        return Split(**parts)
    return Masks({k: torch.zeros(len(nodes), 1, dtype=torch.bool).index_fill(0, ids, True) for k, ids in parts.items()})


def check_fields(data: Any, nodes: int, edges: int) -> None:
    """Refuse what says what an edge means and is not used here; warn of other tensors of nodes or edges."""
    for key, remedy in REFUSED.items():
        if getattr(data, key, None) is not None:
            raise ValueError(f"the graph has {key}, which is not supported; {remedy}, and remove {key}")
    fields = data.to_dict() if callable(getattr(data, "to_dict", None)) else getattr(data, "__dict__", {})
    unread = []
    for key, value in fields.items() if isinstance(fields, Mapping) else ():
        shape = tuple(getattr(value, "shape", ()))
        if str(key).startswith("_") or key in _READ or key in _HARMLESS or not shape:
            continue
        if shape[0] in (nodes, edges) or shape[-1] == edges:
            unread.append(f"{key} {shape}")
    if unread:
        warnings.warn(f"the graph carries {', '.join(unread)}, which nothing here uses", stacklevel=3)


def _as_node_id(node_id: Any, nodes: int) -> Tensor:
    if node_id is None:
        return torch.arange(nodes)
    found = _as_tensor("node_id", node_id)
    if found.shape != (nodes,) or found.is_floating_point() or found.is_complex() or found.dtype is torch.bool:
        raise ValueError(
            f"node_id is {found.dtype} {tuple(found.shape)}; expected an integer for each of {nodes} nodes"
        )
    found = found.long()
    if int(found.min()) < 0:
        raise ValueError(f"node_id says where a node stood in a larger graph, from 0; got {int(found.min())}")
    if len(found.unique()) != nodes:
        raise ValueError("node_id names a node twice")
    return found


def _as_labels(y: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as a tensor, and their names in sorted order if they are strings."""
    found = np.asarray(y) if not isinstance(y, Tensor) else y
    if not found.ndim:  # what NumPy makes of a sparse matrix, and of any other object
        raise ValueError(f"y is a {type(y).__name__}; expected labels (N,)")
    if isinstance(found, np.ndarray) and found.dtype.kind in "USO":
        found = found if isinstance(y, np.ndarray) else np.asarray(y, dtype=object)  # 3 beside "a" would become "3"
        return _numbered(found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found)
    found = _as_tensor("y", found)
    return (found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found), ()


def _numbered(y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
    """Strings, or objects, as numbers; None, NaN and blanks as -1."""
    flat = [each.decode() if isinstance(each, bytes) else each for each in y.ravel().tolist()]
    known = [each for each in flat if each is not None and each == each and each != ""]
    if known and not any(isinstance(each, str) for each in known):
        try:
            numbers = np.array([-1 if each is None else each for each in flat], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"labels are numbers or strings, got {known[0]!r}") from error
        return torch.from_numpy(numbers).reshape(y.shape), ()
    strange = next((each for each in known if not isinstance(each, str)), None)
    if strange is not None:
        raise ValueError(f"labels are numbers or strings, not both, got {strange!r} beside strings")
    names = sorted(set(known))
    number = {name: place for place, name in enumerate(names)}
    return torch.tensor([number.get(each, -1) for each in flat]).reshape(y.shape), tuple(names)


def _as_tensor(key: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_meta:
            raise ValueError(f"{key} is on the device 'meta', which holds no values")
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
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= nodes):
        bad = ((edge_index < 0) | (edge_index >= nodes)).any(0).nonzero()
        edge = int(bad[0])
        source, target = edge_index[:, edge].tolist()
        raise ValueError(f"edge {edge} joins nodes {source} and {target}, but the graph has the nodes 0 to {nodes - 1}")


def _check_labels(y: Tensor, num_classes: Any, unlabelled: str) -> tuple[Tensor, int]:
    """Labels as integers, and the number of classes."""
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer)):
        raise ValueError(f"num_classes is a whole number, not {num_classes!r}")
    if unlabelled not in ("raise", "keep"):
        raise ValueError(f"unlabelled is 'raise' or 'keep', not {unlabelled!r}")
    if not len(y):
        raise ValueError("the graph has no nodes")
    if y.layout is not torch.strided:
        raise ValueError(f"labels are a dense tensor, got {y.layout}; pass y.to_dense()")
    y = y.where(y == y, -1)  # NaN
    if y.is_complex() or (y.is_floating_point() and not torch.equal(y, y.round())):
        raise ValueError(f"labels must be integers, got {y.dtype} with fractions")
    y = y.long()
    classes = int(y.max()) + 1 if num_classes is None else int(num_classes)
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
