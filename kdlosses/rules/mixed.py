from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.options import nearest


class Mixed(nn.Module):
    r"""Several operations in one place, with weights that are learned, of a network whose architecture is searched.

    $$ o(x) = \sum_k \mathrm{softmax}(\alpha)_k \, o_k(x) $$

    All are called with the same arguments and return tensors of one shape; on nodes `(N, C)`, with edges or without, or
    on maps. $\alpha$ starts at 0: all weigh the same.

    Args:
        **operations: modules by their names, two or more.

    Raises:
        ValueError: fewer than two.

    Paper: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019.

    >>> mixed = Mixed(skip=nn.Identity(), zero=Zero(), linear=Plain(nn.Linear(2, 2)))
    >>> mixed.alpha.data[1] = 9.0
    >>> mixed.strongest, mixed(torch.ones(3, 2)).shape
    ('zero', torch.Size([3, 2]))
    """

    def __init__(self, **operations: nn.Module) -> None:
        super().__init__()
        if len(operations) < 2:
            raise ValueError(f"Mixed: two operations or more, got {len(operations)}")
        self.operations = nn.ModuleDict(operations)
        self.alpha = nn.Parameter(torch.zeros(len(operations)))

    @property
    def strongest(self) -> str:
        """Name of the operation of the largest weight, the first of equals."""
        return list(self.operations)[int(self.alpha.argmax())]

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        weights = self.alpha.softmax(0)
        return torch.stack([w * each(*args, **kwargs) for w, each in zip(weights, self.operations.values())]).sum(0)


class Zero(nn.Module):
    """An operation that yields zeros: where an input is added to it, there is no layer."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros_like(x)


class Plain(nn.Module):
    """An operation that reads features alone, beside others that read edges as well."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.layer(x)


def choices(network: nn.Module) -> dict[str, str]:
    """Name of the strongest operation of each `Mixed` of a network, by its path."""
    every = network.named_modules(remove_duplicate=False)
    return {path: each.strongest for path, each in every if isinstance(each, Mixed)}


def decided(network: nn.Module, chosen: Mapping[str, str] | None = None) -> nn.Module:
    """A copy of a network in which one operation, with its weights, stands for each `Mixed`.

    Args:
        network: with `Mixed` operations.
        chosen: their names by path, such as those that a search found in another network of this shape; the strongest
            if not given.

    Raises:
        KeyError: a path in `chosen` has no `Mixed`, one has no choice, or there is no such operation.

    >>> decided(nn.Sequential(Mixed(skip=nn.Identity(), zero=Zero())))
    Sequential(
      (0): Identity()
    )
    """
    strongest = choices(network)
    names = strongest if chosen is None else chosen
    for path in names.keys() ^ strongest.keys():
        what = "has no choice" if path in strongest else f"is no Mixed of {type(network).__name__}"
        raise KeyError(f"decided: {path!r} {what}; {nearest(path, strongest)}")
    return _decided(copy.deepcopy(network), "", names)


def _decided(module: Any, path: str, names: Mapping[str, str]) -> nn.Module:
    if isinstance(module, Mixed):
        name = names[path]
        if name not in module.operations:
            raise KeyError(f"decided: {path!r} has no operation {name!r}; {nearest(name, module.operations)}")
        return _decided(module.operations[name], f"{path}.operations.{name}".lstrip("."), names)
    for name, child in module._modules.items():  # as children, but a part that is there twice counts twice
        if child is not None:
            setattr(module, name, _decided(child, f"{path}.{name}".lstrip("."), names))
    return module
