"""The network of a student."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphkd.spec import real, widths


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of `(N, d)` that also accepts a single row in training.

    It is normalised by the running statistics, as in evaluation, and leaves them as they are: the last batch of an
    epoch, the part of a process and the labelled rows of a step may each be one row.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) > 1 or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        mean, var = self.running_mean.clone(), self.running_var.clone()  # a later batch moves them before the gradient
        return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)


NORMS = {None: nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}


class MLP(nn.Module):
    """Linear layers with normalisation, if any, ReLU and dropout between them.

    Args:
        in_features: width F of the input.
        hidden: widths of the hidden layers; a number is one layer.
        classes: width C of the output.
        dropout: share of hidden units dropped in training.
        norm: `batch`, `layer` or None, of each hidden layer before its ReLU.

    Shape: `(N, F)`, dense or sparse CSR, to logits `(N, C)`.

    Raises:
        ValueError: a setting is out of range; names it.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] | int,
        classes: int,
        dropout: float = 0.0,
        norm: Literal["batch", "layer"] | None = None,
    ) -> None:
        super().__init__()
        hidden, dropout, norm = checked_shape(hidden, dropout, norm)
        self.shape = (in_features, hidden, classes, dropout, norm)
        self.in_features = in_features
        self.widths = [*hidden, classes]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise([in_features, *self.widths]))
        self.norms = nn.ModuleList(NORMS[norm](width) for width in hidden)
        self.dropout = nn.Dropout(dropout)
        self.amp = False  # in training: products in bfloat16

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Every hidden layer after its activation, before dropout, and the logits last; on the device of the input."""
        *inner, last = self.layers
        found: list[Tensor] = []
        given = x.device
        x = x.to(self.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp and self.training):
            for layer, norm in zip(inner, self.norms):
                found.append(norm(_linear(layer, x)).relu())
                x = self.dropout(found[-1])
            found.append(_linear(last, x))
        return [each.to(given, torch.float32 if self.amp else each.dtype) for each in found]

    def last_features(self, x: Tensor) -> Tensor:
        """What the last layer reads: the last hidden layer after dropout, or the input where there is none."""
        return self.dropout(self.outputs(x)[-2]) if len(self.layers) > 1 else x

    @torch.no_grad()
    def rescale(self, scale: Tensor, mean: Tensor) -> None:
        """Multiply the outputs by `scale` `(C,)` and add `mean`, in the weights of the last layer.

        >>> network = MLP(2, (), 1)
        >>> before = network(torch.ones(1, 2))
        >>> network.rescale(torch.tensor([3.0]), torch.tensor([5.0]))
        >>> torch.testing.assert_close(network(torch.ones(1, 2)), 3 * before + 5)
        """
        last: Any = self.layers[-1]
        scale, mean = (each.double().to(last.bias.device) for each in (scale, mean))
        last.weight.copy_(last.weight.double() * scale[:, None])
        last.bias.copy_(last.bias.double() * scale + mean)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(x)[-1]


def checked_shape(hidden: Any, dropout: Any, norm: Any) -> tuple[tuple[int, ...], float, Any]:
    """Check the settings of an `MLP` and return plain values; ValueError names what is out of range."""
    if not (norm is None or isinstance(norm, str)) or norm not in NORMS:
        raise ValueError(f"norm is one of {', '.join(map(repr, NORMS))}, not {norm!r}")
    return widths("hidden", hidden), real("dropout", dropout, 0, 1), norm


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`; of a few sparse rows by the columns that they have: PyTorch's product would copy the whole weight.

    Sparse rows are multiplied in their own dtype: there is no such product in bfloat16.
    """
    if isinstance(layer, nn.Linear) and x.layout is torch.sparse_csr and torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _linear(layer, x)
    if not isinstance(layer, nn.Linear) or x.layout is not torch.sparse_csr or len(x.values()) >= x.shape[1]:
        return layer(x)
    row = torch.arange(len(x), device=x.device).repeat_interleave(x.crow_indices().diff())
    parts = layer.weight.t()[x.col_indices()] * x.values().unsqueeze(1)
    return layer.bias + parts.new_zeros(len(x), layer.out_features).index_add(0, row, parts)
