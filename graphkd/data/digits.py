"""Nearest-neighbour graph of scikit-learn's handwritten digits; no download needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from graphkd.data.graph import Graph
from graphkd.extras import needs_extra
from graphkd.sparse.edges import both_ways


def digits(neighbours: int = 5) -> Graph:
    """Nearest-neighbour graph of the 1,797 real 8 x 8 digit images: 64 features in 0..1, 10 classes, undirected.

    Args:
        neighbours: each image is joined to so many nearest ones (Euclidean, in pixel values; of equally near ones to
            the first), the same on every machine.

    >>> graph = digits()
    >>> len(graph), graph.num_classes
    (1797, 10)
    """
    with needs_extra("graphkd.data.digits"):
        from scipy.spatial.distance import cdist
        from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    apart = cdist(images, images, "sqeuclidean")  # of whole numbers, hence exact, so that ties are ties
    np.fill_diagonal(apart, np.inf)
    near = torch.from_numpy(apart.argsort(1, kind="stable")[:, :neighbours].copy())
    y = torch.from_numpy(labels.astype(np.int64))
    one_way = torch.stack([torch.arange(len(y)).repeat_interleave(neighbours), near.flatten()])
    edges = both_ways(one_way).unique(dim=1)
    return Graph(torch.from_numpy((images / 16).astype(np.float32)), edges, y, 10, torch.arange(len(y)))


def parity() -> Graph:
    """The digits, of which it is to be told whether they are even or odd: two classes of five kinds each.

    >>> parity().num_classes
    2
    """
    graph = digits()
    return replace(graph, y=graph.y % 2, num_classes=2)


def landmarks() -> Graph:
    """The digits, of which two points are to be told: the centres of the ink in the upper and in the lower half.

    Four numbers, row and column of each point, in pixels from the centre of the image; there is ink in each half.

    >>> graph = landmarks()
    >>> graph.task, tuple(graph.y.shape)
    ('regression', (1797, 4))
    """
    graph = digits()
    halves = graph.x.reshape(-1, 2, 4, 8)
    ink = halves.sum((2, 3)).clamp_min(1e-6)
    rows = torch.arange(8.0).reshape(2, 4, 1) - 3.5
    columns = torch.arange(8.0) - 3.5
    points = torch.stack([(halves * rows).sum((2, 3)) / ink, (halves * columns).sum((2, 3)) / ink], 2)
    return replace(graph, y=points.flatten(1), num_classes=4, task="regression")
