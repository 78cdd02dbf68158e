"""The network of a student."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

NORMS = {None: nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Module):
    """Linear layers with normalisation, if any, ReLU and dropout between them.

    Args:
        in_features: width F of the input.
        hidden: widths of the hidden layers.
        classes: width C of the output.
        dropout: share of hidden units dropped in training.
        norm: `batch`, `layer` or None, of each hidden layer before its ReLU.

    Shape: `(N, F)`, dense or sparse CSR, to logits `(N, C)`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        classes: int,
        dropout: float = 0.0,
        norm: Literal["batch", "layer"] | None = None,
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden, classes]
        self.in_features = in_features
        self.widths = widths[1:]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(NORMS[norm](width) for width in hidden)
        self.dropout = nn.Dropout(dropout)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Every hidden layer after its activation, before dropout, and the logits last."""
        *inner, last = self.layers
        found: list[Tensor] = []
        for layer, norm in zip(inner, self.norms):
            found.append(norm(_linear(layer, x)).relu())
            x = self.dropout(found[-1])
        return [*found, _linear(last, x)]

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(x)[-1]


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`; of a few sparse rows by the columns that they have: PyTorch's product would copy the whole weight."""
    if not isinstance(layer, nn.Linear) or x.layout is not torch.sparse_csr or len(x.values()) >= x.shape[1]:
        return layer(x)
    row = torch.arange(len(x)).repeat_interleave(x.crow_indices().diff())
    parts = layer.weight.t()[x.col_indices()] * x.values().unsqueeze(1)
    return layer.bias + parts.new_zeros(len(x), layer.out_features).index_add(0, row, parts)
