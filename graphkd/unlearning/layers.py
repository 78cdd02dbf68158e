"""The layers of a graph network: read, or drawn anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.links.network import LinkGNN
from graphkd.unlearning.operator import Deleting, without_operators


def encoder_of(model: nn.Module) -> nn.Module:
    """What turns features and edges into one row for each node: the model itself, or the encoder of a `LinkGNN`."""
    return model.encoder if isinstance(model, LinkGNN) else model


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that pass messages, by their paths, in the order in which they were defined.

    Raises:
        ValueError: there are none that are known: those of a `GNN` of this package, and of PyG's `MessagePassing`.

    >>> from graphkd.teachers.gcn import gcn
    >>> list(layers_of(gcn(8, 3)))
    ['layers.0', 'layers.1']
    """
    from torch_geometric.nn import MessagePassing

    from graphkd.teachers.gnn import GNN

    owned = {id(layer) for part in network.modules() if isinstance(part, GNN) for layer in part.layers}
    found: dict[str, nn.Module] = {}
    for path, module in network.named_modules():
        if any(path.startswith(f"{outer}.") for outer in found):
            continue
        if path and (id(module) in owned or isinstance(module, MessagePassing | Deleting)):
            found[path] = module
    if not found:
        raise ValueError(
            f"{type(network).__name__} has no layer that is known to pass messages, none of PyG's MessagePassing: "
            "its layers cannot be read; choose d2dgn with form='response', or another method"
        )
    return found


def layered(network: nn.Module, forward: Callable[[], Any], apart: bool = False) -> list[Tensor]:
    """What each of `layers_of` yields while `forward` runs, in their order.

    With gradient; `apart`, the gradient of a layer does not reach those before it.
    """
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, arguments: Any, out: Any) -> Tensor | None:
            if not isinstance(out, Tensor):
                raise ValueError(f"the layer {path!r} yields a {type(out).__name__}, one tensor is needed of it")
            found[path] = out.clone()  # an activation in place may overwrite it
            return out.detach() if apart else None

        return hook

    layers = layers_of(network)
    hooks = [layer.register_forward_hook(keep(path)) for path, layer in layers.items()]
    try:
        forward()
    finally:
        for each in hooks:
            each.remove()
    if unused := layers.keys() - found.keys():
        raise ValueError(f"the layer {min(unused)!r} of {type(network).__name__} is never called: remove it")
    return [found[path] for path in layers]


def uncached(model: nn.Module) -> nn.Module:
    """The model, in place, with layers of PyG that were built with `cached=True` as if they had not been.

    Such a layer answers over the edges that it saw first, whatever it is given.
    """
    for module in model.modules():
        if getattr(module, "cached", False) is True:
            module.cached = False  # type: ignore[assignment]
            for name in [name for name in vars(module) if name.startswith("_cached")]:
                setattr(module, name, None)
    return model


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """A copy whose parameters are drawn anew, as `reset_parameters` of its modules does; nothing of the old ones stays.

    It has no operators of `gnndelete`.

    Raises:
        ValueError: a parameter belongs to no module with `reset_parameters`; names it.

    >>> layer = nn.Linear(2, 2)
    >>> new = redrawn(layer, 0).weight
    >>> torch.equal(new, redrawn(layer, 0).weight), torch.equal(new, layer.weight)
    (True, False)
    """
    new = without_operators(copy.deepcopy(model)).requires_grad_(True)
    parts = dict(new.named_modules())
    for name, _ in new.named_parameters():
        *path, _ = name.split(".")
        owners = (".".join(path[:depth]) for depth in range(len(path) + 1))
        if not any(hasattr(parts[owner], "reset_parameters") for owner in owners):
            raise ValueError(
                f"the parameter {name!r} of {type(model).__name__} cannot be drawn anew: give its module a method "
                "reset_parameters()"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in parts.values():
            reset = getattr(part, "reset_parameters", None)
            if reset is not None:
                reset()
    return new
