from __future__ import annotations

import itertools

from torch import nn
from torch_geometric.nn import GINConv

from graphkd.networks.mlp import BatchNorm
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


@teacher()
def gin(in_features: int, classes: int, *, layers: int = 2, hidden: int = 64, dropout: float = 0.5) -> GNN:
    """GIN: sums over neighbours, then two linear layers. For sets of graphs take 4 or 5 `layers`.

    Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019.
    """

    def conv(inputs: int, outputs: int) -> GINConv:
        inside = [nn.Linear(inputs, hidden), BatchNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
        return GINConv(nn.Sequential(*inside))

    widths = [in_features, *[hidden] * (layers - 1), classes]
    network = GNN([conv(a, b) for a, b in itertools.pairwise(widths)], dropout)
    network.sparse = False
    return network
