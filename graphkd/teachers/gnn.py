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
        norms: of each layer but the last, before its activation; none if not given.

    Shape: features `(N, F)`, dense or sparse CSR, and edges `(2, E)` to logits `(N, C)`.
    """

    sparse = True
    """Takes sparse features. A network that does not say so is given dense ones."""

    reads_edges = True
    """As a student it is shown the edges, see `Lesson.outputs`."""

    def __init__(
        self,
        layers: Sequence[nn.Module],
        dropout: float = 0.0,
        activation: nn.Module | None = None,
        norms: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout
        self.activation = activation or nn.ReLU()
        self.norms = nn.ModuleList(norms or [nn.Identity() for _ in layers[1:]])

    def outputs(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Every hidden layer after its activation, and the logits last."""
        found: list[Tensor] = []
        *inner, last = self.layers
        for layer, norm in zip(inner, self.norms):
            found.append(self.activation(norm(layer(x, edge_index))))
            x = F.dropout(found[-1], self.dropout, self.training)
        return [*found, last(x, edge_index)]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.outputs(x, edge_index)[-1]
