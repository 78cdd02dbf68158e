from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdlosses.registry import build, register
from kdlosses.schedule import scaled


@register(match="inner")
class Warmup(nn.Module):
    r"""Any loss times a factor that grows linearly with the epoch, up to 1.

    $$ L = \min\Big(\frac{e + e_0}{E}, 1\Big) \, \ell(s, t) $$

    The factor is that of the epoch and stays the same within it. Epochs e count from 0, so that at $e_0 = 0$ the first
    epoch has factor 0 and runs no teacher, see `Loss.active`. In a run that counts iterations alone use `ramp`.

    Args:
        loss: what `kdlosses.build` takes.
        epochs: epochs E until the factor is 1.
        first: number $e_0$ of the first epoch. The papers' code counts from 1: its first epoch has factor 1/E.

    `forward`:
        student: as the loss inside wants it.
        teacher: likewise.
        epoch: epochs that are done.
        context: what the loss inside names.

    Raises:
        ValueError: `epochs` is not positive, or `first` is negative.

    Paper: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, and Chen et al., "Distilling Knowledge via
    Knowledge Review", CVPR 2021: E = 20 on CIFAR-100, 1 on ImageNet. Factor 1.

    >>> import torch
    >>> loss, s, t = build(dict(type="warmup", loss="mse", epochs=20)), torch.zeros(1, 2), torch.ones(1, 2)
    >>> [loss(s, t, epoch=e).item() for e in (0, 5, 20, 300)]
    [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(self, loss: Any = "kl", epochs: float = 20, first: int = 0) -> None:
        super().__init__()
        if not epochs > 0 or first < 0:
            raise ValueError(f"warmup: epochs must be positive and first at least 0, got {epochs} and {first}")
        self.loss = build(loss)
        self.epochs, self.first = epochs, first

    def forward(self, student: Tensor, teacher: Tensor, epoch: int, **context: Any) -> Tensor:
        context["epoch"] = epoch
        return scaled(self.factor(epoch), self.loss, student, teacher, context)

    def factor(self, epoch: int) -> float:
        """Factor in this epoch."""
        return min((epoch + self.first) / self.epochs, 1.0)

    def active(self, epoch: int, **context: Any) -> bool:
        """Whether the factor is not 0 and the loss inside is active."""
        return self.factor(epoch) != 0 and self.loss.active(epoch=epoch, **context)
