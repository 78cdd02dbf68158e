from __future__ import annotations

from torch import Tensor, nn

from graphkd.sparse.edges import neighbour_average
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


class Average(nn.Module):
    """Mean over a node and its neighbours, `hops` times, without parameters; with 0 hops it reads no edges."""

    def __init__(self, hops: int = 1) -> None:
        super().__init__()
        self.hops = hops

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        for _ in range(self.hops):
            x = neighbour_average(x, edge_index, edge_weight)
        return x


class Smoothed(nn.Module):
    """A linear layer whose output is averaged over the neighbourhood."""

    def __init__(self, in_features: int, out_features: int, hops: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.average = Average(hops)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.average(self.linear(x), edge_index, edge_weight)


@teacher()
def sgc(in_features: int, classes: int, *, hops: int = 2) -> GNN:
    """Logistic regression on features averaged over `hops` hops; with 0 on the features alone.

    Wu et al., "Simplifying Graph Convolutional Networks", 2019, with the mean over neighbours and oneself.
    """
    return GNN([Smoothed(in_features, classes, hops)])
