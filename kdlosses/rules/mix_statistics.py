from __future__ import annotations

import torch
from torch import Tensor


def mix_statistics(x: Tensor, other: Tensor, keep: float | Tensor = 0.0, eps: float = 1e-6) -> Tensor:
    r"""Move the mean and standard deviation of features towards those of others, channel by channel.

    $$ \tilde x = \frac{x - \mu_x}{\sigma_x} \, \sigma + \mu, \qquad
       \mu = \kappa \mu_x + (1 - \kappa) \mu_o, \quad \sigma = \kappa \sigma_x + (1 - \kappa) \sigma_o $$

    A map has statistics of its own, over its positions; nodes have those of their group, over the rows given.

    Args:
        x: `(N, C, *)`.
        other: for maps `(N, C, *)`, a partner for each; for nodes `(M, C)`, a group of any size.
        keep: $\kappa$, from 0 to 1; a number, or for maps `(N,)`.
        eps: a channel of smaller spread is constant: it takes the other mean alone.

    Paper: the mixing of Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected
    Images", ICCV 2023, whose formula was not at hand; the form is that of MixStyle (Zhou et al., 2021).

    >>> mix_statistics(torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [14.0]]))
    tensor([[10.],
            [14.]])
    """
    axes = tuple(range(2, x.ndim)) or (0,)
    if isinstance(keep, Tensor) and keep.ndim:
        keep = keep.view(-1, *[1] * (x.ndim - 1))
    mean, spread = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)
    new_mean = keep * mean + (1 - keep) * other.mean(axes, keepdim=True)
    new_spread = keep * spread + (1 - keep) * other.std(axes, correction=0, keepdim=True)
    return (x - mean) * torch.where(spread > eps, new_spread / spread.clamp_min(eps), 1.0) + new_mean
