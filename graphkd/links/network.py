"""Networks that score pairs of nodes: from features alone, or with the edges of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.mlp import MLP
from graphkd.sparse.rows import Matrix, rows
from graphkd.spec import widths


class Hadamard(nn.Module):
    """Score of a pair: an MLP of the product of its two representations, element by element; symmetric in the pair.

    Shape: representations `(N, d)` and pairs `(2, *)` of their rows, to logits `(*)`.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.mlp = MLP(width, (width,), 1, dropout)

    def forward(self, h: Tensor, pairs: Tensor) -> Tensor:
        one, other = F.embedding(pairs, h)
        return self.mlp(one * other).squeeze(-1)


class LinkMLP(nn.Module):
    """A student: represents a node by its features.

    Args:
        in_features: width F of the features.
        hidden: widths of the encoder's layers; the last is that of a representation, and of the predictor.
        dropout: share of hidden units dropped in training.

    Shape: features `(N, F)` and pairs `(2, *)` of their rows, to logits `(*)`. Only rows in a pair are read, once each.
    """

    def __init__(self, in_features: int, hidden: Sequence[int] | int, dropout: float = 0.0) -> None:
        super().__init__()
        *inner, width = widths("hidden", hidden)
        self.encoder = MLP(in_features, inner, width, dropout)
        self.predictor = Hadamard(width, dropout)

    def forward(self, x: Matrix, pairs: Tensor) -> Tensor:
        nodes, place = pairs.unique(return_inverse=True)
        return self.predictor(self.encoder(rows(x, nodes).float()), place)


class LinkGNN(nn.Module):
    """A teacher: represents a node by its neighbourhood.

    Args:
        encoder: `(x, edge_index)` to representations `(N, width)`.
        width: of a representation, and of the predictor.
        dropout: share of the predictor's hidden units dropped in training.
    """

    def __init__(self, encoder: nn.Module, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = Hadamard(width, dropout)

    def forward(self, x: Tensor, edge_index: Tensor, pairs: Tensor) -> Tensor:
        return self.predictor(self.encoder(x, edge_index), pairs)
