"""The deletion operator of `gnndelete`, and layers with one behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Deleting(nn.Module):
    r"""A layer, and behind it a matrix that changes what it yields for some nodes, $h'_i = h_i W$.

    Args:
        layer: of a graph network, `(N, d)` out; frozen.
        nodes: ids `(n,)` of these nodes.
        like: what the layer yields for the whole graph `(N, d)`; W has its width, device and dtype.
        fill: W begins with it everywhere; as the identity if not given.

    Raises:
        ValueError: in `forward`, where the layer yields another number of nodes: the ids are those of one graph.
    """

    def __init__(self, layer: nn.Module, nodes: Tensor, like: Tensor, fill: float | None = None) -> None:
        super().__init__()
        self.layer, self.count = layer, len(like)
        self.register_buffer("nodes", nodes.to(like.device))
        self.nodes: Tensor
        matrix = torch.eye(like.shape[1]) if fill is None else torch.full((like.shape[1],) * 2, fill)
        self.weight = nn.Parameter(matrix.to(like))

    def forward(self, *given: Any, **named: Any) -> Tensor:
        h = self.layer(*given, **named)
        if len(h) != self.count:
            raise ValueError(
                f"gnndelete has changed what this network says of single nodes of a graph of {self.count}; it was "
                f"shown one of {len(h)}"
            )
        return h.index_copy(0, self.nodes, h[self.nodes] @ self.weight)


def put(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module where another stands in a network."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def without_operators(network: nn.Module) -> nn.Module:
    """The network, in place, with its layers as they were before `gnndelete`."""
    for path, module in list(network.named_modules()):
        if isinstance(module, Deleting) and path:
            inner: nn.Module = module
            while isinstance(inner, Deleting):
                inner = inner.layer
            put(network, path, inner)
    return network
