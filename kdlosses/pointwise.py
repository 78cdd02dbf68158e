from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


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
        if features.ndim != 2 and features.ndim not in _CONVOLVE:
            raise ValueError(
                f"expected nodes (N, C) or maps of 1 to 3 axes of space, got features {tuple(features.shape)}"
            )
        if features.ndim == 2:
            return super().forward(features)
        kernel = self.weight[(...,) + (None,) * (features.ndim - 2)]
        return _CONVOLVE[features.ndim](features, kernel, self.bias)
