"""A stack of PyG layers that tells its hidden layers as well as its logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class GNN(nn.Module):
    """Graph layers with an activation and dropout between them.

    Args:
        layers: modules called as `layer(x, edge_index)`.
        dropout: share of hidden units dropped in training.
        activation: between the layers.

    Shape: features `(N, F)`, dense or sparse CSR, and edges `(2, E)` to logits `(N, C)`.
    """

    def __init__(self, layers: Sequence[nn.Module], dropout: float = 0.0, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout
        self.activation = activation or nn.ReLU()

    def outputs(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Every hidden layer after its activation, and the logits last."""
        found: list[Tensor] = []
        for layer in self.layers:
            if found:
                x = F.dropout(found[-1], self.dropout, self.training)
            found.append(layer(x, edge_index))
            if len(found) < len(self.layers):
                found[-1] = self.activation(found[-1])
        return found

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.outputs(x, edge_index)[-1]
