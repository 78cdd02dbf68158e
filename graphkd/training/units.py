"""Targets that are numbers, as networks learn them: with a mean of 0 and a standard deviation of 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Units:
    r"""What the numbers of a user are measured in.

    $$ \tilde y = \frac{y - \mu}{\sigma} $$

    Attributes:
        mean: of the training targets, `(T,)` in float64.
        scale: their standard deviation; 1 for a target that is the same everywhere.

    >>> units = Units.of(torch.tensor([[9000.0], [11000.0]]))
    >>> units.standard(torch.tensor([[12000.0]])), units.own(torch.tensor([[2.0]]))
    (tensor([[2.]]), tensor([[12000.]], dtype=torch.float64))
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Units:
        """The units of training targets `(n, T)`."""
        y = targets.double()
        mean, spread = y.mean(0), y.std(0, correction=0)
        alike = spread <= 1e-7 * mean.abs()  # what float32 cannot tell apart
        return cls(mean, torch.where(alike, torch.ones_like(spread), spread))

    def standard(self, values: Tensor) -> Tensor:
        """Numbers `(n, T)`, or of several teachers `(n, E T)`, as networks learn them, in float32."""
        times = values.shape[1] // len(self.mean)
        return ((values.double() - self.mean.repeat(times)) / self.scale.repeat(times)).float()

    def own(self, values: Tensor) -> Tensor:
        """What a network says, in the user's units, in float64."""
        return values.double() * self.scale + self.mean
