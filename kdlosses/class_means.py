from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassMeans(nn.Module):
    """Running mean feature of each class, a buffer: saved in checkpoints, not trained.

    Without `momentum` it is the mean of everything seen: for a frozen teacher, after one epoch, the mean over the
    training set. With it, a class that a batch has moves to `momentum * old + (1 - momentum) * new`; its first mean is
    taken whole. Classes that a batch lacks stay.

    Args:
        classes: number of classes.
        channels: C.
        momentum: share of the old mean.

    >>> means = ClassMeans(classes=2, channels=1)
    >>> means.update(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), torch.ones(2))
    >>> means.update(torch.tensor([[5.0]]), torch.tensor([0]), torch.ones(1))
    >>> means.mean.tolist(), means.seen.tolist()
    ([[3.0], [0.0]], [3.0, 0.0])
    """

    mean: Tensor
    seen: Tensor

    def __init__(self, classes: int, channels: int, momentum: float | None = None) -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(classes, channels))
        self.register_buffer("seen", torch.zeros(classes))

    @torch.no_grad()
    def moved(self, new: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and `seen` after a batch's `class_means`, without storing them."""
        seen = self.seen + number
        if self.momentum is None:
            step = number / _positive(seen)
        else:
            step = (1 - self.momentum * (self.seen > 0).to(new.dtype)) * (number > 0)
        return self.mean + step.unsqueeze(1) * (new - self.mean), seen

    @torch.no_grad()
    def keep(self, mean: Tensor, seen: Tensor) -> None:
        """Store what `moved` returned."""
        self.mean.copy_(mean)
        self.seen.copy_(seen)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, weight: Tensor) -> None:
        """Update the means with features `(n, C)`, labels and weight `(n,)`."""
        self.keep(*self.moved(*class_means(features, labels, weight, len(self.seen))))


def class_means(features: Tensor, labels: Tensor, weight: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature `(classes, C)` of each class over rows `(n, C)`, 0 for an empty class, and each class's weight."""
    weight = weight.to(features.dtype)
    features = (features * weight.unsqueeze(1)).masked_fill_(weight.unsqueeze(1) == 0, 0)  # 0 * nan is nan
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)
    number = features.new_zeros(classes).index_add(0, labels, weight)
    return sums / _positive(number).unsqueeze(1), number


def _positive(number: Tensor) -> Tensor:
    return number.clamp_min(torch.finfo(number.dtype).tiny)
