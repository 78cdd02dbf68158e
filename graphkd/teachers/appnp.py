from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch_geometric.nn import APPNP

from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


class Propagated(nn.Module):
    """A linear layer followed by personalised PageRank propagation; with 0 steps it reads no edges."""

    def __init__(self, in_features: int, out_features: int, steps: int, alpha: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.propagate = APPNP(steps, alpha)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.propagate(self.linear(x), edge_index, edge_weight)


@teacher(weight_decay=0.01)
def appnp(
    in_features: int,
    classes: int,
    *,
    layers: int = 2,
    hidden: int = 128,
    dropout: float = 0.5,
    steps: int = 10,
    alpha: float = 0.1,
) -> GNN:
    """APPNP. Klicpera et al., "Predict then Propagate: Graph Neural Networks meet Personalized PageRank", 2019."""
    inner = [Propagated(a, b, 0, alpha) for a, b in pairwise([in_features, *[hidden] * (layers - 1)])]
    last = Propagated(hidden if inner else in_features, classes, steps, alpha)
    return GNN([*inner, last], dropout)
