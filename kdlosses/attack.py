"""Inputs that are moved, within bounds, to where a loss is greatest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlosses.taps import at_rest

Mode = Literal["eval", "train"]
"""Of a student while it is attacked: dropout only in `train`."""


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


@torch.enable_grad()
def attacked(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor], attack: Mode, **ascent: Any) -> Tensor:
    """Inputs moved by `ascended` while a model is in evaluation mode, or in the mode that it has (`attack='train'`).

    >>> model = nn.Linear(2, 1)
    >>> moved = attacked(model, torch.zeros(1, 2), lambda x: model(x).sum(), "eval", radius=0.1, step=0.1, steps=1)
    >>> moved.abs().tolist(), model.training
    ([[0.10000000149011612, 0.10000000149011612]], True)
    """
    with nullcontext() if attack == "train" else at_rest(model):
        return ascended(x, loss, **ascent)
