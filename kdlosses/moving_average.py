"""The exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def move(average: nn.Module, model: nn.Module, momentum: float) -> None:
    """Move an average towards a model: `average <- momentum average + (1 - momentum) model`; buffers are copied.

    >>> average, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(average.weight), nn.init.ones_(model.weight)
    >>> move(average, model, 0.75)
    >>> average.weight.item()
    0.25
    """
    weights = dict(model.named_parameters())
    averages: list[Tensor] = list(average.parameters())
    current: list[Tensor] = [weights[name] for name, _ in average.named_parameters()]
    torch._foreach_lerp_(averages, current, 1 - momentum)
    statistics = dict(model.named_buffers())
    for name, buffer in average.named_buffers():
        buffer.copy_(statistics[name])
