"""Inputs that are moved, within bounds, to where a loss is greatest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def ascended(
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    radius: float,
    step: float,
    steps: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Projected gradient ascent: $x' \leftarrow \mathrm{clip}(x' + s \, \mathrm{sign} \nabla \ell(x'), x - r, x + r)$.

    Args:
        x: inputs of any shape.
        loss: from inputs to a scalar.
        radius: r.
        step: s.
        steps: how many.
        noise: standard deviation of the normal noise that it starts with.
        generator: draws it.

    >>> ascended(torch.zeros(2), lambda x: (x * torch.tensor([1.0, -2.0])).sum(), 0.1, 0.03, 5)
    tensor([ 0.1000, -0.1000])
    """
    moved = x.detach()
    if noise:
        moved = moved + noise * torch.randn(x.shape, generator=generator).to(x)
    for _ in range(steps):
        moved.requires_grad_()
        (slope,) = torch.autograd.grad(loss(moved), moved)
        moved = (moved.detach() + step * slope.sign()).clamp(x - radius, x + radius)
    return moved.detach()
