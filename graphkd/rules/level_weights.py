"""Learned weights of losses that cannot collapse onto the easiest loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LevelWeights(nn.Module):
    r"""A convex mixture of losses with learned weights.

    $$ \sum_l w_l L_l + T \sum_l w_l \log \frac{w_l}{p_l}, \qquad w = \mathrm{softmax}(v) $$

    Weights that only minimise the first sum end on the smallest loss. The second one, T times the KL of the weights
    from the shares p that they start with, has its minimum together with the first at

    $$ w_l \propto p_l \, e^{-L_l / T}, \qquad \text{so that} \qquad w_l \ge p_l \, e^{-(L_l - \min L) / T} : $$

    of losses between 0 and 1, none keeps less than $e^{-1/T}$ of its share.

    Args:
        shares: p, positive; scaled to sum 1.
        adapt: T; 0 is the mixture without the second sum, None keeps the weights at their shares.

    `forward`:
        losses: L `(l,)`, on a like scale: for example each over its value for an untrained student.

    Raises:
        ValueError: a share is not positive, or T is negative.

    >>> mixed = LevelWeights([1, 1], adapt=None)
    >>> mixed(torch.tensor([1.0, 3.0])).item()
    2.0
    """

    shares: Tensor

    def __init__(self, shares: Sequence[float], adapt: float | None = 1.0) -> None:
        super().__init__()
        given = torch.tensor(shares, dtype=torch.float32)
        if not (given > 0).all() or (adapt is not None and adapt < 0):
            raise ValueError(f"shares are positive and adapt is None or from 0, got {list(shares)} and {adapt}")
        self.adapt = adapt
        self.register_buffer("shares", given / given.sum())
        self.scores = nn.Parameter(self.shares.log(), requires_grad=adapt is not None)

    def weights(self) -> Tensor:
        """The weights w `(l,)`, which sum to 1."""
        return self.scores.softmax(0)

    def forward(self, losses: Tensor) -> Tensor:
        w = self.weights()
        value = (w * losses).sum()
        return value if not self.adapt else value + self.adapt * (w * (w / self.shares).log()).sum()
