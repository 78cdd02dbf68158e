from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

from graphkd.networks.mlp import BatchNorm
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher
from graphkd.teachers.sgc import Average


class Alone(nn.Module):
    """A linear layer of nodes that reads no edges."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.linear(x)


def _gin(width: int) -> nn.Module:
    return GINConv(nn.Sequential(nn.Linear(width, width), BatchNorm(width), nn.ReLU(), nn.Linear(width, width)))


_CONVS: dict[str, Callable[[int], nn.Module]] = {
    "gcn": lambda width: GCNConv(width, width),
    "gat": lambda width: GATConv(width, width // 8, heads=8),
    "sage": lambda width: SAGEConv(width, width),
    "gin": _gin,
    "sgc": lambda width: Average(),
}


@teacher()
def hopwise(
    in_features: int,
    classes: int,
    *,
    conv: Literal["gcn", "gat", "sage", "gin", "sgc"] = "gcn",
    layers: int = 2,
    hidden: int = 128,
    dropout: float = 0.5,
) -> GNN:
    """A graph network whose hidden layer k sees exactly k hops: `layers` + 1 of them, from 0.

    A linear layer, then `layers` of PyG's convolutions of the kind `conv`, all `hidden` wide, then a linear classifier:
    the students of Hu et al., "Large Language Model Meets Graph Neural Network in Knowledge Distillation", 2024. Ours
    is `sgc`, the mean over the neighbourhood in place of a convolution, see `sgc`, for graphs with few labels: it has
    the weights of an MLP with one hidden layer.
    """
    if conv not in _CONVS:
        raise ValueError(f"hopwise: conv is one of {', '.join(_CONVS)}, not {conv!r}")
    if conv == "gat" and hidden % 8:
        raise ValueError(f"hopwise: hidden ({hidden}) must be a multiple of the 8 heads of gat")
    inner = [_CONVS[conv](hidden) for _ in range(layers)]
    return GNN([Alone(in_features, hidden), *inner, Alone(hidden, classes)], dropout)
