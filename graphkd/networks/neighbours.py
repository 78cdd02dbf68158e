"""A generator of the features of a neighbour from those of a node, and an MLP that reads what it generates."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.mlp import MLP, _linear


class NeighbourVAE(nn.Module):
    r"""Conditional variational autoencoder of $p(x_j \mid x_i)$, the features of a neighbour given a node's own.

    $$ L = \mathrm{mean}_{(j \to i)} \Bigl( -\log p(x_j \mid z, x_i)
         + \mathrm{KL}\bigl(q(z \mid x_j, x_i) \,\|\, N(0, I)\bigr) \Bigr), \qquad z \sim q(z \mid x_j, x_i) $$

    Where all features are from 0 to 1 the first term is the binary cross-entropy, summed over the features, and what is
    generated lies there, too. Else it is that of a normal distribution, whose deviation is learned for each feature;
    what is generated is its mean.

    Args:
        features: F.
        width: hidden units of the encoder and of the decoder.
        latent: width of z.
        draws: number of z that are drawn once and kept, for `expected`.
        words: whether all features are from 0 to 1.

    Shape: features `(n, F)`, dense or sparse CSR.
    """

    points: Tensor
    centre: Tensor
    scale: Tensor
    words: Tensor

    def __init__(self, features: int, width: int = 256, latent: int = 10, draws: int = 4, words: bool = True) -> None:
        super().__init__()
        self.encode_near, self.encode_own = nn.Linear(features, width), nn.Linear(features, width, bias=False)
        self.moments = nn.Linear(width, 2 * latent)
        self.decode_z, self.decode_own = nn.Linear(latent, width), nn.Linear(features, width, bias=False)
        self.output = nn.Linear(width, features)
        self.log_deviation = nn.Parameter(torch.zeros(features))  # in units of `scale`; of words it has no gradient
        self.register_buffer("points", torch.randn(draws, latent))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("words", torch.tensor(words))

    def loss(self, near: Tensor, own: Tensor) -> Tensor:
        """The negative bound on the likelihood of `near` given `own`, a mean over the pairs."""
        mean, log_variance = self._posterior(near, own)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        found, near = self._decoded(z, own), near.to_dense()
        if self.words:
            miss = F.binary_cross_entropy_with_logits(found, near, reduction="none").sum(1)
        else:
            error = (found - (near - self.centre) / self.scale) / self.log_deviation.exp()
            miss = (0.5 * error.square() + self.log_deviation).sum(1)
        return (miss + kl).mean()

    def _posterior(self, near: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        h = (_linear(self.encode_near, self._read(near)) + _from(self.encode_own, self._read(own))).relu()
        mean, log_variance = self.moments(h).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)  # its exponential stays finite

    def drawn(self, own: Tensor) -> Tensor:
        """One neighbour of each node, drawn anew, `(n, F)`."""
        z = torch.randn(own.shape[0], self.points.shape[1], device=self.points.device, dtype=self.points.dtype)
        return self._features(self._decoded(z, own))

    def expected(self, own: Tensor) -> Tensor:
        """Mean of the neighbours at z that are the same for every node and every call, `(n, F)`."""
        inner = _from(self.decode_own, self._read(own))
        found = [self._features(self.output((inner + self.decode_z(z)).relu())) for z in self.points]
        return torch.stack(found).mean(0)

    def _decoded(self, z: Tensor, own: Tensor) -> Tensor:
        return self.output((self.decode_z(z) + _from(self.decode_own, self._read(own))).relu())

    def _features(self, out: Tensor) -> Tensor:
        return out.sigmoid() if self.words else self.centre + self.scale * out

    def _read(self, x: Tensor) -> Tensor:
        return x if self.words else (x.to_dense() - self.centre) / self.scale


def _from(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear map without a bias, of dense or sparse rows."""
    return layer(x) if x.layout is torch.strided else x @ layer.weight.t()


class Beside(nn.Module):
    r"""A first layer that reads a node and a generated neighbour: $W x + b + V \hat x$.

    In training $\hat x$ is drawn anew in each call; else it is what the generator expects.
    """

    def __init__(self, linear: nn.Linear, generator: NeighbourVAE) -> None:
        super().__init__()
        self.linear = linear
        self.near = nn.Linear(linear.in_features, linear.out_features, bias=False).to(linear.weight)
        self.generator = generator.to(linear.weight.device).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            own = x.to(self.generator.points.dtype)
            near = self.generator.drawn(own) if self.training else self.generator.expected(own)
        return _linear(self.linear, x) + self.near(near.to(self.near.weight.dtype))


class WithNeighbour(MLP):
    """An `MLP` that may read a generated neighbour beside the features of a node; it still needs no edge.

    It starts as the MLP of its arguments. Loading a state makes what that holds.
    """

    def augment(self, generator: NeighbourVAE) -> None:
        """Read what a generator makes of the features, too; the generator is not trained with it."""
        first = self.layers[0]
        if not isinstance(first, nn.Linear):
            raise ValueError("the network reads a generated neighbour already")
        self.layers[0] = Beside(first, generator).train(self.training)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        inside = f"{prefix}layers.0.generator."
        if inside + "points" in state_dict and isinstance(self.layers[0], nn.Linear):
            self.augment(like(state_dict, inside))
        super()._load_from_state_dict(state_dict, prefix, *args)


def like(state_dict: dict[str, Any], prefix: str) -> NeighbourVAE:
    """A generator of the sizes that a state has."""
    features, width = state_dict[prefix + "output.weight"].shape
    draws, latent = state_dict[prefix + "points"].shape
    return NeighbourVAE(features, width, latent, draws)
