from __future__ import annotations

import math

import torch
from torch import Tensor


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Scale vectors to length 1. A zero vector stays zero and gets no gradient, where dividing by an eps explodes it.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), dim=1)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / length.masked_fill(length == 0, math.inf)
