"""Teachers of numbers that answer in the user's units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.training.units import Units

MEAN, SCALE = "graphkd_mean", "graphkd_scale"


class InUnits:
    """A forward hook that multiplies what a network returns by its buffer `graphkd_scale` and adds `graphkd_mean`.

    Args:
        place: which item of a tuple, a list or a dict the predictions are; None where nothing else is returned.
    """

    def __init__(self, place: Any = None) -> None:
        self.place = place

    def __call__(self, network: nn.Module, args: Any, out: Any) -> Any:
        if self.place is None:
            return rescaled(network, out)
        if isinstance(out, Mapping):
            return {**out, self.place: rescaled(network, out[self.place])}
        items = [rescaled(network, each) if i == self.place else each for i, each in enumerate(out)]
        return type(out)(*items) if hasattr(out, "_fields") else type(out)(items)


def rescaled(network: nn.Module, values: Tensor) -> Tensor:
    """Predictions `(n, T)` in the units that a network has by `in_units`; of any other network as they are."""
    if not hasattr(network, SCALE):
        return values
    scale, mean = (getattr(network, name) for name in (SCALE, MEAN))
    return (values.double() * scale + mean).to(torch.promote_types(values.dtype, torch.float32))


def in_units(network: nn.Module, units: Units, place: Any = None) -> nn.Module:
    """Make a network that has learned standardised numbers answer in the user's units, by a forward hook.

    Mean and deviation are two buffers, `graphkd_mean` and `graphkd_scale`, so that they are saved with its weights.
    To read these into a new network call this first, with any units: `in_units(network, Units.of(y))`.

    Args:
        network: changed in place.
        units: of its targets.
        place: see `InUnits`.

    >>> units = Units.of(torch.tensor([[9000.0], [11000.0]]))
    >>> network = in_units(nn.Linear(1, 1, bias=False), units)
    >>> bool((network(torch.zeros(1, 1)) == 1e4).all()), sorted(network.state_dict())
    (True, ['graphkd_mean', 'graphkd_scale', 'weight'])
    """
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    network.register_buffer(MEAN, units.mean.to(device))
    network.register_buffer(SCALE, units.scale.to(device))
    network.register_forward_hook(InUnits(place))
    return network
