from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import APPNP

from graphkd.teachers.gnn import GNN


class Pointwise(nn.Linear):
    """A linear layer that looks at no edge."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x)


class Propagated(Pointwise):
    """A linear layer whose output is spread by personalised PageRank."""

    def __init__(self, in_features: int, out_features: int, steps: int, alpha: float) -> None:
        super().__init__(in_features, out_features)
        self.propagate = APPNP(steps, alpha)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(super().forward(x, edge_index), edge_index)


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
    widths: list[int] = [in_features, *[hidden] * (layers - 1)]
    inner: list[nn.Module] = [Pointwise(a, b) for a, b in zip(widths[:-1], widths[1:])]
    return GNN([*inner, Propagated(widths[-1], classes, steps, alpha)], dropout)
