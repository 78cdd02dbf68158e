from __future__ import annotations

from torch import Tensor, nn

from kdlosses.pointwise import Pointwise


class FeatureMask(nn.Module):
    r"""A learned augmentation: scale each feature within bounds.

    $$ g(x) = x \odot \big(1 + b \tanh(A x + c)\big) $$

    with A and c at 0 to begin with, where g is the identity. A feature of 0 stays 0, and none changes its sign.

    Args:
        channels: width of x.
        bound: b, from 0 (the identity for ever) to less than 1.

    `forward`:
        x: features `(N, C, *)`, each position by itself.

    Raises:
        ValueError: `bound` is out of range.

    >>> import torch
    >>> FeatureMask(3)(torch.tensor([[1.0, 0.0, -2.0]]))
    tensor([[ 1.,  0., -2.]], grad_fn=<MulBackward0>)
    """

    def __init__(self, channels: int, bound: float = 0.5) -> None:
        super().__init__()
        if not 0 <= bound < 1:
            raise ValueError(f"feature_mask: bound must lie in [0, 1), got {bound}")
        self.bound = bound
        self.map = Pointwise(channels, channels)
        for parameter in self.map.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.bound * self.map(x).tanh())
