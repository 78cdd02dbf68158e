"""What a condensed set is compared with: graphs as they are, all or some."""

from __future__ import annotations

import torch
from torch import Tensor

from graphkd.condensing.condensed import Condensed
from graphkd.data.reads import GraphSet
from graphkd.spec import whole as whole_number


def whole(graphs: GraphSet, y: Tensor, classes: int, seed: int = 0) -> Condensed:
    """All graphs, as they are.

    >>> graphs = GraphSet(torch.ones(3, 1), torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 0, 1]), 2)
    >>> whole(graphs, torch.tensor([0, 1]), 2)
    Condensed(2 graphs in place of 2 graphs, 13 bytes)
    """
    features, kind = graphs.x.unique(dim=0, return_inverse=True)
    nodes, none = len(kind), torch.zeros_like(kind)
    sizes = torch.bincount(graphs.batch, minlength=graphs.count)
    of_class = torch.bincount(y, minlength=classes)
    return Condensed(
        features, kind, graphs.edge_index, none, torch.arange(nodes), sizes, y, torch.ones_like(y), of_class
    )


def random(graphs: GraphSet, y: Tensor, classes: int, seed: int = 0, *, bytes: int) -> Condensed:
    """Graphs drawn at random, as many as fit in so many bytes, at least one of each class even if they do not fit.

    Args:
        graphs: to draw from.
        y: `(G,)`, class of each.
        classes: C.
        seed: draws the order in which graphs are taken, after the first of each class.
        bytes: see `Condensed.bytes`.
    """
    most = whole_number("bytes", bytes, 1)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    first = torch.stack([order[y[order] == label][0] for label in range(classes)])
    order = torch.cat([first, order[~torch.isin(order, first)]])

    def made(count: int) -> Condensed:
        rows = order[:count]
        return whole(graphs.take(rows), y[rows], classes)

    low, high = classes, len(y)  # the first count fits, or is the least that is taken
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if made(middle).bytes <= most else (low, middle - 1)
    return made(low)
