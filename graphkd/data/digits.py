"""A graph that needs no download: scikit-learn's handwritten digits, each joined to the digits most like it."""

from __future__ import annotations

import numpy as np
import torch

from graphkd.data.graph import Graph
from graphkd.extras import needs_extra


def digits(neighbours: int = 5) -> Graph:
    """Nearest-neighbour graph of the 1,797 real 8 x 8 digit images: 64 features in 0..1, 10 classes, undirected.

    Args:
        neighbours: each image is joined to so many nearest ones (Euclidean, in pixel values).

    >>> graph = digits()
    >>> len(graph), graph.num_classes
    (1797, 10)
    """
    with needs_extra("graphkd.data.digits"):
        from sklearn.datasets import load_digits
        from sklearn.neighbors import kneighbors_graph
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    near = kneighbors_graph(images, neighbours)
    edges = torch.from_numpy(np.stack((near + near.T).nonzero()).astype(np.int64))
    y = torch.from_numpy(labels.astype(np.int64))
    return Graph(torch.from_numpy(images), edges, y, 10, torch.arange(len(y)))
