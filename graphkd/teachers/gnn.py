"""A stack of PyG layers that returns its hidden layers and its logits."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class GNN(nn.Module):
    """Graph layers with an activation and dropout between them.

    Args:
        layers: modules called as `layer(x, edge_index)`, with weights as `layer(x, edge_index, edge_weight=weight)`.
        dropout: share of hidden units dropped in training.
        activation: between the layers.
        norms: of each layer but the last, before its activation; none if not given.

    Shape: features `(N, F)`, dense or sparse CSR, edges `(2, E)` and, if `supports_edge_weight`, weights `(E,)` to
    logits `(N, C)`.
    """

    sparse = True
    """Takes sparse features. A network that does not say so is given dense ones."""

    reads_edges = True
    """As a student it is shown the edges, see `Lesson.outputs`."""

    pooled = True
    """Its layers are as wide as the option `hidden`, and may be pooled over graphs, see `graphkd.teachers.rows`."""

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

    @property
    def supports_edge_weight(self) -> bool:
        """Whether all layers take `edge_weight`; PyG's models have an attribute of this name."""
        return all("edge_weight" in inspect.signature(layer.forward).parameters for layer in self.layers)

    def outputs(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> list[Tensor]:
        """Every hidden layer after its activation, and the logits last."""
        found: list[Tensor] = []
        more = {} if edge_weight is None else {"edge_weight": edge_weight}
        *inner, last = self.layers
        for layer, norm in zip(inner, self.norms):
            found.append(self.activation(norm(layer(x, edge_index, **more))))
            x = F.dropout(found[-1], self.dropout, self.training)
        return [*found, last(x, edge_index, **more)]

    def some(self, x: Tensor, edge_index: Tensor, nodes: Tensor) -> Tensor:
        """Logits `(n, C)` of some nodes, for networks that need not compute those of all."""
        return self(x, edge_index)[nodes]

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        more = {} if edge_weight is None else {"edge_weight": edge_weight}
        return self.outputs(x, edge_index, **more)[-1]
