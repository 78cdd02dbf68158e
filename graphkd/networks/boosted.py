"""A weighted ensemble of networks that are trained one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphkd.networks.mlp import MLP


class Boosted(nn.Module):
    r"""MLPs with a weighted mean of their log-probabilities as prediction.

    $$ z = \log \frac{\sum_k \alpha_k \, \mathrm{softmax}(z_k)}{\sum_k \alpha_k} $$

    It starts with one member, as which it then answers, logits and all; `add` appends another. Loading a state makes as
    many members as that holds.

    Args:
        in_features: of each member, as all that follow; see `MLP`.
        hidden: likewise.
        classes: likewise.
        dropout: likewise.
        norm: likewise.
    """

    alphas: Tensor

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] | int,
        classes: int,
        dropout: float = 0.0,
        norm: Literal["batch", "layer"] | None = None,
    ) -> None:
        super().__init__()
        first = MLP(in_features, hidden, classes, dropout, norm)
        self.shape = first.shape
        self.members = nn.ModuleList([first])
        self.register_buffer("alphas", torch.ones(1))

    def add(self) -> MLP:
        """Append a new member with the mean weight of the others, and return it."""
        member = MLP(*self.shape).to(self.alphas).train(self.training)
        self.members.append(member)
        self.alphas = torch.cat([self.alphas, self.alphas.mean()[None]])
        return member

    def forward(self, x: Tensor) -> Tensor:
        if len(self.members) == 1:
            return self.members[0](x)
        each = torch.stack([member(x).log_softmax(1) for member in self.members])
        return torch.logsumexp(each + (self.alphas / self.alphas.sum()).log()[:, None, None], dim=0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        held = max(1, len(state_dict.get(prefix + "alphas", self.alphas)))
        del self.members[held:]
        self.alphas = self.alphas[:held]
        while len(self.members) < held:
            self.add()
        super()._load_from_state_dict(state_dict, prefix, *args)
