"""MLPs that a recipe rebuilds before it trains them, and that are read back from a file as they were built."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.mlp import MLP, NORMS, _linear


class Rebuilt(MLP):
    """An `MLP` whose number of layers a recipe may change by `rebuild`.

    It starts as the MLP of its arguments. Loading a state makes the layers that it holds.
    """

    def rebuild(self, widths: Sequence[int]) -> None:
        """Replace all layers by new ones of these widths, the number of classes last; the norms, too."""
        like = next(self.parameters())
        sizes = [self.in_features, *widths]
        self.widths = [*widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)).to(like)
        self.norms = nn.ModuleList(NORMS[self.shape[-1]](width) for width in widths[:-1]).to(like)
        self.train(self.training)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        widths: list[int] = []
        while (weight := state_dict.get(f"{prefix}layers.{len(widths)}.weight")) is not None:
            widths.append(len(weight))
        if widths and widths != self.widths:
            self.rebuild(widths)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Paired(Rebuilt):
    """The student of TINED: each of its layers may be two, as a graph network transforms features and propagates them.

    Attributes:
        bare: whether normalisation, ReLU and dropout are left out within a pair, so that it is one linear map.
    """

    bare = False

    def passes(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each linear map reads, and what it gives before normalisation and ReLU; the last gives the logits."""
        found = []
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp and self.training):
            for place, layer in enumerate(self.layers):
                out = _linear(layer, x)
                found.append((x.float(), out.float()) if self.amp else (x, out))
                if place < len(self.norms) and not (self.bare and place % 2 == 0):
                    out = self.dropout(self.norms[place](out).relu())
                x = out
        return found

    def outputs(self, x: Tensor) -> list[Tensor]:
        """As of any MLP; while it is bare, what is within the pairs is left out."""
        if not self.bare:
            return super().outputs(x)
        passes = self.passes(x)
        return [*(given for given, _ in passes[2::2]), passes[-1][1]]


class Residual(Rebuilt):
    r"""The student of SimMLP: an encoder with rows of length 1, and one linear layer on it.

    $$ a_1 = \mathrm{act}(W_1 x), \quad a_l = \mathrm{act}(W_l a_{l - 1}) + a_{l - 1}, \quad z = a_L / \|a_L\| $$

    with act normalisation, PReLU, of one slope for all layers, and dropout; of the last layer L of the encoder
    normalisation alone. A layer of another width than the one before it has no sum. Before `encode` is called it is the
    plain MLP; loading a state makes it what the state is of.
    """

    slope: nn.PReLU | None

    def __init__(self, *shape: Any, **options: Any) -> None:
        super().__init__(*shape, **options)
        self.register_module("slope", None)

    def encode(self) -> None:
        """Become the encoder with a linear layer on it; the weights stay."""
        self.slope = nn.PReLU().to(next(self.parameters()))

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Every layer of the encoder before dropout, its last one with rows of length 1, and the logits last."""
        if self.slope is None:
            return super().outputs(x)
        *inner, last = self.layers
        found: list[Tensor] = []
        given = x.device
        x = x.to(self.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp and self.training):
            for place, (layer, norm) in enumerate(zip(inner, self.norms)):
                out, before = norm(_linear(layer, x)), x
                final = place == len(inner) - 1
                out = out if final else self.slope(out)
                x = out if final else self.dropout(out)
                if place and x.shape == before.shape:
                    x, out = x + before, out + before
                if final:
                    x = out = F.normalize(out, dim=1)
                found.append(out)
            found.append(last(x))
        return [each.to(given, torch.float32 if self.amp else each.dtype) for each in found]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "slope.weight" in state_dict and self.slope is None:
            self.encode()
        super()._load_from_state_dict(state_dict, prefix, *args)
