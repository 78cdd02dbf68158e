from __future__ import annotations

from torch import Tensor, nn


class Pointwise(nn.Linear):
    """A linear map of axis 1 at every position: a linear layer for nodes `(N, C)`, a 1x1 convolution for maps.

    Like every parameter of a loss, its own must reach the optimiser: hand `loss.parameters()` to it.

    >>> import torch
    >>> Pointwise(3, 8)(torch.zeros(5, 3)).shape, Pointwise(3, 8)(torch.zeros(2, 3, 4, 4)).shape
    (torch.Size([5, 8]), torch.Size([2, 8, 4, 4]))
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[1] != self.in_features:
            raise ValueError(f"expected {self.in_features} channels on axis 1, got features {tuple(features.shape)}")
        if features.ndim == 2:
            return super().forward(features)
        mapped = self.weight @ features.flatten(2)
        if self.bias is not None:
            mapped = mapped + self.bias[:, None]
        return mapped.reshape(features.shape[0], self.out_features, *features.shape[2:])
