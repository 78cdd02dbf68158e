"""Layers of a trained network above one that is given to it: what it makes of another hidden layer than its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphkd.data.graph import Graph
from graphkd.teachers.call import call, call_on
from graphkd.teachers.gnn import GNN
from graphkd.teachers.taps import fits, message_passing
from kdlosses.taps import Tap, find


class Place(NamedTuple):
    """Where a hidden layer is in a network.

    Attributes:
        module: whose input or output it is.
        tap: which of these, and which item of it.
        call: in which call of the module, from 0.
    """

    module: nn.Module
    tap: Tap
    call: int = 0


_INPUT, _OUTPUT = Tap("", of_input=True), Tap("")


def hidden_place(network: nn.Module, forward: Callable[[nn.Module], Tensor], nodes: int) -> Place:
    """Where the last hidden layer of a network is: the one that its cache has last, see `hidden_layers`.

    Raises:
        ValueError: it has none.
    """
    taps = getattr(network, "hidden_taps", None)
    if taps is None and isinstance(network, GNN) and len(network.layers) > 1:
        return Place(network.layers[-1], _INPUT)
    if taps is not None:
        tap = Tap.parse(taps[-1].split("+")[-1])
        module = find(network, tap.path, taps[-1].startswith(":"))
        return Place(module, tap, len(_run([module], network, forward)[1]) - 1)
    logits, called = _run([module for _, module in message_passing(network)], network, forward)
    fitting = [place for place, call in enumerate(called) if fits(call.out, nodes)]
    if fitting and called[fitting[-1]].out.shape == logits.shape:
        fitting.pop()
    if not fitting:
        raise ValueError(f"the teacher {type(network).__name__} has no hidden layer: name one, taps=['path']")
    return _place_of(called, fitting[-1], _OUTPUT)


def last_linear(network: nn.Module, forward: Callable[[nn.Module], Tensor], classes: int) -> tuple[Place, Tensor]:
    """The last linear layer that makes a number for each class, at its input, and what that is, `(N, d)`.

    Raises:
        ValueError: there is none.
    """
    parts = [each for each in network.modules() if _rows(each) == classes]
    _, called = _run(parts, network, forward)
    for place, (module, given, _) in reversed([*enumerate(called)]):
        if isinstance(given, Tensor) and given.ndim == 2 and given.shape[1] == module.weight.shape[1]:
            return _place_of(called, place, _INPUT), given
    raise ValueError(
        f"the teacher {type(network).__name__} has no linear layer with a row of weights for each of {classes} classes"
    )


def classifier(network: nn.Module, graph: Graph) -> tuple[Tensor, nn.Linear]:
    """The features `(N, d)` that the last linear layer of a network reads, and what it makes of a node by itself.

    A layer of a graph network that multiplies by weights and then mixes neighbours is those weights where there are no
    neighbours.

    Raises:
        ValueError: there is no such layer, or what follows its input is no linear map.
    """
    classes: Any = graph.num_classes
    place, features = last_linear(network, lambda each: call_on(each, graph), classes)
    width = features.shape[1]
    probe = torch.cat([torch.zeros(1, width), torch.eye(width), _odd(width)])
    nobody = torch.zeros(len(probe), graph.x.shape[1])
    weight = None if graph.edge_weight is None else graph.edge_weight[:0]
    with put(place, lambda layer: probe.to(layer)):
        told = call(network, nobody, graph.edge_index[:, :0], weight, classes)
    linear = nn.Linear(width, classes)
    linear.weight.copy_((told[1 : width + 1] - told[0]).t())
    linear.bias.copy_(told[0])
    if not torch.allclose(linear(_odd(width)), told[width + 1 :], rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"what the teacher {type(network).__name__} makes of the input of its last linear layer is no linear map"
        )
    return features.float().cpu(), linear


def _odd(width: int) -> Tensor:
    return torch.randn(4, width, generator=torch.Generator().manual_seed(0))


@contextmanager
def put(place: Place, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, the hidden layer at a place is `change(layer)`."""
    count = itertools.count()

    def given(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if next(count) != place.call:
            return None
        if not args:
            name = next(iter(kwargs))
            return args, {**kwargs, name: change(kwargs[name])}
        return (change(args[0]), *args[1:]), kwargs

    def made(module: nn.Module, args: Any, out: Any) -> Any:
        return _changed(out, place.tap, change) if next(count) == place.call else None

    hook = (
        place.module.register_forward_pre_hook(given, with_kwargs=True)
        if place.tap.of_input
        else place.module.register_forward_hook(made)
    )
    try:
        yield
    finally:
        hook.remove()


def _changed(out: Any, tap: Tap, change: Callable[[Tensor], Tensor]) -> Any:
    if tap.key:
        return {**out, tap.key: _changed(out[tap.key], tap._replace(key=""), change)}
    if isinstance(out, Tensor):
        return change(out)
    place = (-1 if tap.item is None else tap.item) % len(out)
    return type(out)(change(each) if i == place else each for i, each in enumerate(out))


class _Call(NamedTuple):
    module: Any
    given: Any
    out: Any


def _rows(module: nn.Module) -> int | None:
    """Rows of the weights of a linear layer, one's own or PyG's."""
    weight = getattr(module, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.ndim == 2 else None


def _place_of(called: list[_Call], place: int, tap: Tap) -> Place:
    module = called[place].module
    return Place(module, tap, sum(each.module is module for each in called[:place]))


def _run(
    parts: list[nn.Module], network: nn.Module, forward: Callable[[nn.Module], Tensor]
) -> tuple[Tensor, list[_Call]]:
    """Run a network; its logits, and each call of some modules with its first input and its output."""
    called: list[_Call] = []

    def note(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        called.append(_Call(module, args[0] if args else next(iter(kwargs.values()), None), out))

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in parts]
    try:
        with torch.no_grad():
            return forward(network), called
    finally:
        for hook in hooks:
            hook.remove()
