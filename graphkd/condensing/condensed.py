"""A condensed set of graphs: what a network is trained on in place of it, and its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphkd.students import files

_KEY, _WHAT = "graphkd_condensed", "condensed set of graphs"
_SMALL = (torch.uint8, torch.int16, torch.int32, torch.int64)


class Drawn(NamedTuple):
    """Rows of a condensed set, for a network called as `network(x, edge_index, batch=batch, roots=roots)`."""

    x: Tensor
    """Features `(n, F)`."""
    edge_index: Tensor
    """`(2, E)`."""
    batch: Tensor
    """`(R,)`, the row of each root, ascending."""
    roots: Tensor
    """`(R,)`, the nodes that are pooled."""


@dataclass(frozen=True, eq=False)
class Condensed:
    """Rows with a class, each of which is pooled over nodes of one graph: whole graphs, or roots of computation trees.

    Attributes:
        features: `(K, F)`, each features that a node has.
        kind: `(n,)`, which of these each node has.
        edge_index: `(2, E)`, source above target.
        missing: `(n,)`, see `graphkd.condensing.trees.Forest`.
        roots: `(R,)`, the nodes that are pooled, row by row; a node may be a root of several rows.
        sizes: `(S,)`, how many roots each row has.
        y: `(S,)`, class of each row.
        count: `(S,)`, in how many graphs of the class each row is.
        class_sizes: `(C,)`, how many graphs of each class there were.
        hops: number of layers that see at a root what they see at the node of a graph; None where rows are graphs.
        settings: what it was made by.

    `print(condensed)` says how large it is.
    """

    features: Tensor
    kind: Tensor
    edge_index: Tensor
    missing: Tensor
    roots: Tensor
    sizes: Tensor
    y: Tensor
    count: Tensor
    class_sizes: Tensor
    hops: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        what = "graphs" if self.hops is None else f"sets of {self.hops}-hop trees"
        return f"Condensed({len(self)} {what} in place of {int(self.class_sizes.sum())} graphs, {self.bytes:,} bytes)"

    @property
    def num_classes(self) -> int:
        return len(self.class_sizes)

    @property
    def weight(self) -> Tensor:
        r"""Probability `(S,)` with which a row is drawn.

        $$ P(s) = \frac{n_{y_s}}{\sum_c n_c} \; \frac{\mathrm{count}_s}{\sum_{t: y_t = y_s} \mathrm{count}_t} $$
        """
        count = self.count.double()
        total = torch.zeros(self.num_classes, dtype=torch.double).index_add_(0, self.y, count)
        return count / total[self.y] * self.class_sizes[self.y] / self.class_sizes.sum()

    @property
    def bytes(self) -> int:
        """Bytes of its tensors in a file: integers in as few bytes as hold them, an undirected edge once."""
        return sum(each.nbytes for each in _packed(self).values())

    def take(self, rows: Tensor) -> Drawn:
        """Rows by number `(B,)`, each as often as it is named, and of the graph what their roots can see."""
        starts = self.sizes.cumsum(0) - self.sizes
        taken = self.sizes[rows]
        batch = torch.arange(len(rows)).repeat_interleave(taken)
        roots = self.roots[torch.arange(len(batch)) - (taken.cumsum(0) - taken)[batch] + starts[rows][batch]]
        keep = torch.zeros(len(self.kind), dtype=torch.bool)
        keep[roots] = True
        source, target = self.edge_index
        while not bool(keep[source[keep[target]]].all()):
            keep[source[keep[target]]] = True
        place = keep.cumsum(0) - 1
        missing, x = self.missing[keep], self.features[self.kind[keep]]
        edges = [place[self.edge_index[:, keep[target]]]]
        if missing.any():  # one more node, of which nobody but the leaves hears
            leaves = torch.arange(len(missing)).repeat_interleave(missing)
            edges.append(torch.stack([torch.full_like(leaves, len(x)), leaves]))
            x = torch.cat([x, torch.zeros(1, x.shape[1])])
        return Drawn(x, torch.cat(edges, 1), batch, place[roots])

    def save(self, path: str | Path) -> None:
        """Write it to one safetensors file; no pickle.

        Raises:
            OSError: it cannot be written; a file that was there is as it was.
        """
        meta = {"shape": [*self.features.shape], "nodes": len(self.kind), "hops": self.hops, "settings": self.settings}
        files.write_tensors(path, _packed(self), _KEY, meta)

    @classmethod
    def load(cls, path: str | Path) -> Condensed:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file holds no condensed set of graphs, or is damaged.
        """
        tensors, meta = files.read(path, _KEY, _WHAT)
        with files.rebuilding(path, _WHAT):
            return _unpacked(tensors, meta)


def _packed(made: Condensed) -> dict[str, Tensor]:
    """Its tensors without what the others tell."""
    row, column = made.features.nonzero().T
    values = made.features[row, column]
    found = {"feature_row": row, "feature_column": column, "kind": made.kind, "sizes": made.sizes, "y": made.y}
    found |= {"class_sizes": made.class_sizes}
    if (values != 1).any():
        found["feature_value"] = values if (values != values.round()).any() else values.long()
    if not torch.equal(made.roots, torch.arange(len(made.kind))):
        found["roots"] = made.roots
    for name, usual in (("missing", 0), ("count", 1)):
        if (getattr(made, name) != usual).any():
            found[name] = getattr(made, name)
    source, target = made.edge_index
    one, other = source * len(made.kind) + target, target * len(made.kind) + source
    undirected = not (source == target).any() and torch.equal(one.sort().values, other.sort().values)
    found["undirected" if undirected else "edge_index"] = (
        made.edge_index[:, source < target] if undirected else (made.edge_index)
    )
    return {name: _small(each).contiguous() for name, each in found.items()}


def _unpacked(tensors: dict[str, Tensor], meta: dict[str, Any]) -> Condensed:
    got = {name: each if each.is_floating_point() else each.long() for name, each in tensors.items()}
    nodes, features = meta["nodes"], torch.zeros(meta["shape"])
    row, column = got["feature_row"], got["feature_column"]
    features[row, column] = got["feature_value"].float() if "feature_value" in got else torch.ones(len(row))
    half = got.get("undirected")
    made = Condensed(
        features,
        got["kind"],
        got["edge_index"] if half is None else torch.cat([half, half.flip(0)], 1),
        got.get("missing", torch.zeros(nodes, dtype=torch.long)),
        got.get("roots", torch.arange(nodes)),
        got["sizes"],
        got["y"],
        got.get("count", torch.ones(len(got["y"]), dtype=torch.long)),
        got["class_sizes"],
        meta["hops"],
        meta["settings"],
    )
    for name, each, below in (
        ("kind", made.kind, len(features)),
        ("edge_index", made.edge_index, nodes),
        ("roots", made.roots, nodes),
        ("y", made.y, made.num_classes),
    ):
        if each.numel() and not 0 <= int(each.min()) <= int(each.max()) < below:
            raise ValueError(f"{name} is not from 0 to {below - 1}")
    rows = {len(each) for each in (made.sizes, made.y, made.count)}
    if len(rows) > 1 or int(made.sizes.sum()) != len(made.roots) or {len(made.kind), len(made.missing)} != {nodes}:
        raise ValueError("its tensors do not fit together")
    return made


def _small(values: Tensor) -> Tensor:
    """Integers in as few bytes as hold them."""
    if values.is_floating_point():
        return values.float()
    low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
    return values.to(next(each for each in _SMALL if torch.iinfo(each).min <= low and high <= torch.iinfo(each).max))
