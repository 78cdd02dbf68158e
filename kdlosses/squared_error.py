from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean


def squared_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared error of `(N, C, *)`, averaged over channels and positions; without a weight in one fused pass.

    >>> import torch
    >>> squared_error(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1), torch.tensor([1.0, 0.0])).item()
    1.0
    """
    if weight is None:
        return F.mse_loss(a, b)
    return weighted_mean((a - b).square().mean(1), weight)
