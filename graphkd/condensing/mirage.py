"""Frequent sets of computation trees in place of graphs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphkd.condensing.condensed import Condensed
from graphkd.condensing.frequent import KINDS, frequent_sets
from graphkd.condensing.trees import forest, tree_codes
from graphkd.data.reads import GraphSet
from graphkd.spec import real, whole


def mirage(
    graphs: GraphSet,
    y: Tensor,
    classes: int,
    seed: int = 0,
    *,
    hops: int = 2,
    thresholds: float | Sequence[float] = 0.1,
    sets: Literal["frequent", "closed", "maximal"] = "closed",
    degrees: bool = False,
    counts: bool = False,
) -> Condensed:
    r"""Mirage: condense graphs to the sets of computation trees that are frequent in a class.

    $$ \mathcal{S}_c = \Big\{ S : \big| \{ G : y_G = c, \; S \subseteq \mathcal{T}_L(G) \} \big| \ge \theta_c \Big\},
       \qquad P(S \mid c) \propto \mathrm{support}_c(S) $$

    $\mathcal{T}_L(G)$ are the trees of depth L, the `hops`, of the nodes of a graph, see
    `graphkd.condensing.trees.tree_codes`. A network of L layers has at a node what the tree tells it, so a set of trees
    stands for the graphs that have them: the network is called on the trees, and their roots are pooled. No network is
    trained for it and no gradient is taken, so what is kept serves any network of message passing with at most L
    layers.

    Args:
        graphs: to condense. Features of nodes are kinds: one-hot, or other whole numbers.
        y: `(G,)`, class of each.
        classes: C.
        seed: nothing is drawn.
        hops: depth L of the trees, the number of layers of the networks to train.
        thresholds: in how many graphs of its class a set is, at least: a float is a share of them, above 0 and at most
            1, a whole number from 1 so many. One for all classes, or a list of one for each.
        sets: `closed` keeps those of which no larger one is in as many graphs, `maximal` those of which no larger one
            is frequent, `frequent` all.
        degrees: a leaf is of a kind of its own for each number of neighbours. GCN reads these, so that its trees are
            exact, and less frequent; without it a leaf has the mean of its kind. Other layers do not.
        counts: a tree is pooled as often as it stands in the graphs of its set, on average, and not once.

    Raises:
        ValueError: features are no whole numbers, a node has an edge to itself, a threshold is out of range or leaves
            no set, or so many that they cannot be listed.
        TypeError: `degrees` or `counts` is neither True nor False.

    Paper: Gupta, Manchanda, Ranu, Bedathur, "Mirage: Model-Agnostic Graph Distillation for Graph Classification", ICLR
    2024. Its sets are all those that are frequent, which is `frequent`, and it gives thresholds as numbers of graphs.
    Shares, `closed`, `maximal`, `degrees` and `counts` are ours, and so is that trees share their equal branches.

    >>> ring = torch.tensor([[0, 1, 2], [1, 2, 0]])  # the other graph has three nodes and no edge
    >>> graphs = GraphSet(torch.ones(6, 1), ring, torch.tensor([0, 0, 0, 1, 1, 1]), 2)
    >>> mirage(graphs, torch.tensor([0, 1]), 2, thresholds=1)
    Condensed(2 sets of 2-hop trees in place of 2 graphs, 18 bytes)
    """
    hops, sizes = whole("hops", hops, 1), torch.bincount(y, minlength=classes)
    for name, value in ("degrees", degrees), ("counts", counts):
        if not isinstance(value, bool):
            raise TypeError(f"{name} is True or False, got {value!r}")
    if sets not in KINDS:
        raise ValueError(f"sets is one of {', '.join(map(repr, KINDS))}, got {sets!r}")
    least = _least(thresholds, sizes.tolist())
    _check(graphs)
    features, kind = graphs.x.unique(dim=0, return_inverse=True)
    told = kind
    if degrees:
        degree = torch.bincount(graphs.edge_index[1], minlength=len(kind))
        told = kind * (degree.max() + 1) + degree
    codes = tree_codes(told, graphs.edge_index, hops)
    members = codes[-1].split(torch.bincount(graphs.batch, minlength=graphs.count).tolist())
    found = [
        each
        for label in range(classes)
        for each in _of_class(
            [Counter(members[g].tolist()) for g in (y == label).nonzero().flatten().tolist()],
            label,
            least[label],
            sets,
            counts,
        )
    ]
    trees = sorted({tree for _, repeats, _ in found for tree in repeats})
    built = forest(codes, graphs.edge_index, torch.tensor(trees))
    place = {tree: row for row, tree in enumerate(trees)}
    used, kinds = kind[built.node].unique(return_inverse=True)
    return Condensed(
        features[used],
        kinds,
        built.edge_index,
        built.missing,
        torch.tensor([place[tree] for _, repeats, _ in found for tree, n in repeats.items() for _ in range(n)]),
        torch.tensor([sum(repeats.values()) for _, repeats, _ in found]),
        torch.tensor([label for label, _, _ in found]),
        torch.tensor([count for _, _, count in found]),
        sizes,
        hops,
    )


def _least(thresholds: Any, sizes: list[int]) -> list[int]:
    """The support of each class, in graphs."""
    if isinstance(thresholds, np.ndarray | Tensor):
        thresholds = thresholds.tolist()
    given = list(thresholds) if isinstance(thresholds, Sequence) else [thresholds] * len(sizes)
    if len(given) != len(sizes):
        raise ValueError(f"thresholds is one number, or one for each of {len(sizes)} classes, got {thresholds!r}")
    found = []
    for label, (each, size) in enumerate(zip(given, sizes)):
        what = f"the threshold of class {label}"
        if isinstance(each, float) and real(what, each) <= 1:
            if each == 0:
                raise ValueError(f"{what} is a share above 0, or a number of graphs from 1, got {each!r}")
            found.append(math.ceil(each * size - 1e-9))
        else:
            found.append(whole(what, each, 1))
    return found


def _check(graphs: GraphSet) -> None:
    """Raise for what has no trees of kinds."""
    odd = (graphs.x != graphs.x.round()).nonzero()
    if len(odd):
        node, column = odd[0].tolist()
        raise ValueError(
            f"features of nodes are no kinds: graph {int(graphs.batch[node])} has {float(graphs.x[node, column]):g} in "
            f"column {column}, and trees are equal where kinds are. Make whole numbers of them, as bins by "
            "sklearn.preprocessing.KBinsDiscretizer do, or take method='random'"
        )
    source, target = graphs.edge_index
    alone = (source == target).nonzero().flatten()
    if len(alone):
        raise ValueError(
            f"graph {int(graphs.batch[source[alone[0]]])} has an edge from a node to itself, which layers add by "
            "themselves, and trees have not: remove such edges, as T.RemoveSelfLoops() does"
        )


def _of_class(
    graphs: list[Counter[int]], label: int, least: int, sets: str, counts: bool
) -> list[tuple[int, dict[int, int], int]]:
    """The sets of a class: its label, how often each tree is a root, and in how many graphs they are."""
    try:
        found = frequent_sets([frozenset(each) for each in graphs], least, sets)
    except ValueError as error:
        raise ValueError(f"the threshold {least} of class {label}: {error}") from error
    if not found:
        most = max(Counter(tree for each in graphs for tree in each).values())
        raise ValueError(
            f"the threshold of class {label} leaves no set: it asks for {least} of {len(graphs)} graphs, and the most "
            f"frequent tree is in {most} ({most / len(graphs):.2g}); lower it, or take fewer hops"
        )
    rows = []
    for trees, count in found:
        having = [each for each in graphs if all(tree in each for tree in trees)] if counts else []
        rows.append((label, {t: round(sum(g[t] for g in having) / len(having)) if counts else 1 for t in trees}, count))
    return rows
