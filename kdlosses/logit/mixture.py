"""Mixtures of distributions, in log space: what the bounded divergences compare with."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    r"""Log-probabilities of the mixture, $\log(\lambda a + (1 - \lambda) b)$ with $\lambda$ the `share` of a.

    Raises:
        ValueError: the share is outside [0, 1].

    >>> log_mixture(torch.tensor([0.25, 0.75]).log(), torch.tensor([0.5, 0.5]).log(), 0.2).exp()
    tensor([0.4500, 0.5500])
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of a mixture must be in [0, 1], got {share!r}")
    if share in (0, 1):
        return log_a if share == 1 else log_b
    return torch.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))
