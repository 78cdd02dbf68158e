"""Networks that score pairs of nodes: from features alone, or with the edges of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
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

    @property
    def shape(self) -> tuple[int, tuple[int, ...], float]:
        """The arguments that it was built with."""
        in_features, inner, width, dropout, _ = self.encoder.shape
        return in_features, (*inner, width), dropout

    def forward(self, x: Matrix, pairs: Tensor) -> Tensor:
        nodes, place = pairs.unique(return_inverse=True)
        return self.predictor(self.encoder(rows(x, nodes).float()), place)


class LinkGate(nn.Module):
    """Log-weights of the members of an ensemble for each pair, from features alone; equal ones until it is trained.

    Args:
        in_features: width F of the features.
        hidden: widths of the encoder's layers, as of `LinkMLP`.
        dropout: likewise.
        members: K.

    Shape: features `(N, F)` and pairs `(2, *)` of their rows, to log-weights `(*, K)`; symmetric in the pair.
    """

    def __init__(self, in_features: int, hidden: Sequence[int] | int, dropout: float, members: int) -> None:
        super().__init__()
        *inner, width = widths("hidden", hidden)
        self.encoder = MLP(in_features, inner, width, dropout)
        self.mlp = MLP(width, (width,), members, dropout)
        for parameter in self.mlp.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Matrix, pairs: Tensor) -> Tensor:
        nodes, place = pairs.unique(return_inverse=True)
        one, other = F.embedding(place, self.encoder(rows(x, nodes).float()))
        return self.mlp(one * other).log_softmax(-1)


class LinkEnsemble(nn.Module):
    r"""Students of links whose probabilities are averaged, by a gate with other weights for each pair.

    $$ s_{uv} = \mathrm{logit} \Bigl( \sum_k w^k_{uv} \, \sigma(s^k_{uv}) \Bigr), \qquad \sum_k w^k_{uv} = 1 $$

    It starts with one member, as which it then answers. Loading a state makes what that holds.

    Args:
        in_features: of each member, and of the gate, see `LinkMLP`.
        hidden: likewise.
        dropout: likewise.

    Attributes:
        active: number of the member that answers alone; None is all of them.

    Shape: that of `LinkMLP`.
    """

    def __init__(self, in_features: int, hidden: Sequence[int] | int, dropout: float = 0.0) -> None:
        super().__init__()
        first = LinkMLP(in_features, hidden, dropout)
        self.shape = first.shape
        self.members = nn.ModuleList([first])
        self.register_module("gate", None)
        self.gate: LinkGate | None
        self.active: int | None = None

    def grow(self, members: int) -> None:
        """Append new members until there are so many."""
        while len(self.members) < members:
            self.members.append(LinkMLP(*self.shape).train(self.training))

    def add_gate(self) -> LinkGate:
        """Give it a gate, which weighs the members that it has now, and return that."""
        self.gate = LinkGate(*self.shape, len(self.members)).train(self.training)
        return self.gate

    def forward(self, x: Matrix, pairs: Tensor) -> Tensor:
        if self.active is not None or len(self.members) == 1:
            return self.members[self.active or 0](x, pairs)
        each = torch.stack([member(x, pairs) for member in self.members], -1)
        return self.joined(each, None if self.gate is None else self.gate(x, pairs))

    @staticmethod
    def joined(each: Tensor, log_weight: Tensor | None = None) -> Tensor:
        """Logits `(*)` of the weighted mean of the probabilities of members with logits `(*, K)`.

        >>> LinkEnsemble.joined(torch.tensor([0.25, 0.75]).logit()).sigmoid()
        tensor(0.5000)
        """
        shift = torch.zeros(()) if log_weight is None else log_weight  # equal weights cancel
        return (F.logsigmoid(each) + shift).logsumexp(-1) - (F.logsigmoid(-each) + shift).logsumexp(-1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        numbers = [key.removeprefix(f"{prefix}members.") for key in state_dict if key.startswith(f"{prefix}members.")]
        self.grow(len({number.partition(".")[0] for number in numbers}))
        if any(key.startswith(f"{prefix}gate.") for key in state_dict) and self.gate is None:
            self.add_gate()
        super()._load_from_state_dict(state_dict, prefix, *args)


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
