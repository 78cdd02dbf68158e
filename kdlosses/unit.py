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


def cosines(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Cosine between vectors; 0, without a gradient, where one of them is zero.

    >>> cosines(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]]), dim=1)
    tensor([0.8000, 0.0000])
    """
    lengths = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return torch.linalg.vecdot(a, b, dim=dim) / lengths.masked_fill(lengths == 0, math.inf)
