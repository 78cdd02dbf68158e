from __future__ import annotations

import itertools

from torch_geometric.nn import GCNConv

from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


@teacher(weight_decay=1e-3)
def gcn(in_features: int, classes: int, *, layers: int = 2, hidden: int = 64, dropout: float = 0.8) -> GNN:
    """GCN. Kipf, Welling, "Semi-Supervised Classification with Graph Convolutional Networks", 2017."""
    widths = [in_features, *[hidden] * (layers - 1), classes]
    return GNN([GCNConv(a, b) for a, b in itertools.pairwise(widths)], dropout)
