"""Splits of edges: training, validation and test; in production some nodes are new as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphkd.data import Graph
from graphkd.links.pairs import NonEdges, once, pair_keys
from graphkd.sparse.rows import rows


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """Edges, each once, and non-edges of one graph.

    Attributes:
        x: features of all nodes.
        seen: ids of the nodes seen in training, ascending.
        train: `(2, E)` edges to learn from and to pass messages over; numbers of `seen`.
        val: edges to select on; numbers of `seen`.
        val_none: as many non-edges.
        visible: edges that messages may pass over in the test; ids.
        test: edges to test on by their kind, the first kind all of them; ids.
        test_none: non-edges to rank each kind among; ids.

    Raises:
        ValueError: a part is empty.
    """

    x: Tensor
    seen: Tensor
    train: Tensor
    val: Tensor
    val_none: Tensor
    visible: Tensor
    test: dict[str, Tensor]
    test_none: Tensor

    def __post_init__(self) -> None:
        for name, edges in {"train": self.train, "val": self.val, **self.test}.items():
            if not edges.shape[1]:
                raise ValueError(
                    f"the split leaves no edge to {name}: the graph has too few, or the share is too small"
                )

    @property
    def x_seen(self) -> Tensor:
        """Features of the nodes seen in training."""
        return rows(self.x, self.seen)

    @property
    def all_tested(self) -> Tensor:
        """The test edges of every kind."""
        return next(iter(self.test.values()))


def tran(graph: Graph, seed: int, *, val: float = 0.05, test: float = 0.1) -> LinkSplit:
    """Transductive split: all nodes are seen; held-out edges are tested against as many non-edges.

    Args:
        graph: an edge may be given in one direction or in both.
        seed: of what is drawn.
        val: share of the edges to select on.
        test: share of the edges to test on.

    >>> from graphkd.data import digits
    >>> split = tran(digits(), seed=0)
    >>> [edges.shape[1] for edges in (split.train, split.val, split.test["test"])]
    [5364, 315, 630]
    """
    generator = torch.Generator().manual_seed(seed)
    known, chosen, held = _deal(once(graph.edge_index), (val, test), generator)
    none = NonEdges(graph.edge_index, len(graph)).sample(chosen.shape[1] + held.shape[1], generator)
    val_none, test_none = none.split([chosen.shape[1], held.shape[1]], 1)
    return LinkSplit(graph.x, torch.arange(len(graph)), known, chosen, val_none, known, {"test": held}, test_none)


def prod(
    graph: Graph, seed: int, *, new: float = 0.1, val: float = 0.1, test: float = 0.1, late: float = 0.1
) -> LinkSplit:
    """Production split: new nodes, with most of their edges, and some edges of old nodes come after training.

    Edges of two old nodes, of an old and a new one, and of two new ones are tested apart, each kind among the same
    non-edges, which are drawn from all pairs.

    Args:
        graph: an edge may be given in one direction or in both.
        seed: of what is drawn.
        new: share of the nodes that are new.
        val: share of what edges are left to the training to select on.
        test: share of the edges of each kind to test on.
        late: share of the edges of two old nodes that come after the training.

    Paper: Guo et al., "Linkless Link Prediction via Relational Distillation", 2023; new, val and test are 0.3 on Cora
    and CiteSeer there.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(graph), generator=generator)
    is_new = torch.zeros(len(graph), dtype=torch.bool)
    is_new[order[: int(new * len(graph))]] = True
    edges, seen = once(graph.edge_index), (~is_new).nonzero().flatten()
    ends_new = is_new[edges].sum(0)
    known, arriving, held = _deal(edges[:, ends_new == 0], (late, test), generator)
    visible, test_edges = [known, arriving], {"old_old": held}
    for kind, count in (("old_new", 1), ("new_new", 2)):
        rest, test_edges[kind] = _deal(edges[:, ends_new == count], (test,), generator)
        visible.append(rest)
    place = torch.full((len(graph),), -1).index_copy(0, seen, torch.arange(len(seen)))
    learnt, chosen = (place[part] for part in _deal(known, (val,), generator))
    return LinkSplit(
        graph.x,
        seen,
        learnt,
        chosen,
        NonEdges(place[edges[:, ends_new == 0]], len(seen)).sample(chosen.shape[1], generator),
        torch.cat(visible, 1),
        {"all": torch.cat(list(test_edges.values()), 1), **test_edges},
        NonEdges(graph.edge_index, len(graph)).sample(int(test * edges.shape[1]), generator),
    )


def of_parts(parts: Sequence[Any]) -> LinkSplit:
    """Use your own split: training, validation and test parts as PyG's `RandomLinkSplit` returns them.

    Training learns from the edges of the training part and from its positive pairs. Validation and test use their own
    pairs; in the test, messages pass over the edges of the test part.

    Args:
        parts: three graphs with `x`, `edge_index`, `edge_label_index` `(2, P)` and `edge_label` `(P,)`, 1 for an edge.

    Raises:
        ValueError: a part lacks one of these, or pairs of validation or test are among the edges to learn from.

    >>> import torch_geometric.transforms as T
    >>> from torch_geometric.data import Data
    >>> from graphkd.data import digits
    >>> data = Data(x=digits().x, edge_index=digits().edge_index)
    >>> split = of_parts(T.RandomLinkSplit(0.05, 0.1, is_undirected=True)(data))
    >>> [edges.shape[1] for edges in (split.train, split.val, split.test["test"])]
    [5364, 315, 630]
    """
    names = ("x", "edge_index", "edge_label_index", "edge_label")
    for what, part in zip(("training", "validation", "test"), parts):
        missing = [name for name in names if getattr(part, name, None) is None]
        if missing:
            raise ValueError(
                f"the {what} part of the split has no {missing[0]}; expected three graphs with {', '.join(names)}, as "
                "RandomLinkSplit returns them"
            )
    train, _, test = parts
    nodes = len(train.x)
    edges = [part.edge_label_index[:, part.edge_label > 0] for part in parts]
    none = [part.edge_label_index[:, part.edge_label <= 0] for part in parts]
    learnt = once(torch.cat([train.edge_index, edges[0]], 1))
    keys = [pair_keys(pairs, nodes) for pairs in (learnt, *edges[1:])]
    for what, each in zip(("validation", "test"), keys[1:]):
        if count := int(torch.isin(each, keys[0]).sum()):
            raise ValueError(
                f"{count} edges of the {what} part are among those to learn from: split an undirected graph with "
                "RandomLinkSplit(is_undirected=True)"
            )
    return LinkSplit(
        train.x,
        torch.arange(nodes),
        learnt,
        once(edges[1]),
        once(none[1]),
        once(test.edge_index),
        {"test": once(edges[2])},
        once(none[2]),
    )


SPLITS = {"tran": tran, "prod": prod}
"""How to split a graph for link prediction: `split(graph, seed, **options) -> LinkSplit`."""


def _deal(edges: Tensor, shares: tuple[float, ...], generator: torch.Generator) -> list[Tensor]:
    """Edges in random order: what is left over first, then the shares."""
    sizes = [int(share * edges.shape[1]) for share in shares]
    if any(share < 0 for share in shares) or sum(shares) >= 1:
        raise ValueError(f"shares of edges to hold back must be positive and sum to less than 1, got {shares}")
    order = torch.randperm(edges.shape[1], generator=generator)
    return list(edges[:, order].split([edges.shape[1] - sum(sizes), *sizes], 1))
