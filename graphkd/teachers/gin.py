from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch_geometric.nn import GINConv

from graphkd.networks.mlp import BatchNorm
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


class SumConv(GINConv):
    """PyG's layer, which takes sparse features as well."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x if x.layout is torch.strided else x.to_dense(), edge_index)


@teacher()
def gin(in_features: int, classes: int, *, layers: int = 2, hidden: int = 64, dropout: float = 0.5) -> GNN:
    """GIN: sums over neighbours, then two linear layers. For sets of graphs take 4 or 5 `layers`.

    Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019.
    """

    def conv(inputs: int, outputs: int) -> SumConv:
        inside = [nn.Linear(inputs, hidden), BatchNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
        return SumConv(nn.Sequential(*inside))

    widths = [in_features, *[hidden] * (layers - 1), classes]
    return GNN([conv(a, b) for a, b in itertools.pairwise(widths)], dropout)
