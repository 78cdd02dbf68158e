from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdlosses.taps import at_rest, find


class Pruned(NamedTuple):
    """A network without some of its layers.

    Attributes:
        model: a copy of the network in which a `Passed` stands for each layer that is left out.
        removed: paths of these, in the order of the layers.
        losses: by path what the output changes where that layer alone is left out.
        expected: the sum of these over `removed`: what the criterion takes for `loss`.
        loss: what the output of `model` changes.
    """

    model: nn.Module
    removed: list[str]
    losses: dict[str, float]
    expected: float
    loss: float


class Passed(nn.Module):
    """Stands for a layer that is left out: returns its first argument, in a tuple where the layer returned one.

    >>> Passed()(torch.ones(2), "another argument")
    tensor([1., 1.])
    """

    def __init__(self, in_tuple: bool = False) -> None:
        super().__init__()
        self.in_tuple = in_tuple

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor | tuple[Tensor]:
        return (x,) if self.in_tuple else x


def prune_layers(
    model: nn.Module, layers: Sequence[str], output: Callable[[nn.Module], Tensor], share: float
) -> Pruned:
    r"""Leave out the layers of a trained network that its output depends on least, in one shot.

    $$ \min_{R} \sum_{l \in R} \frac1n \| f(x) - f_{-l}(x) \|^2 \quad \text{with} \quad
       \sum_{l \in R} P_l \ge \rho \sum_l P_l^\mathrm{all} $$

    with $f_{-l}$ the network without layer l alone and P its parameters. The sum stands for the loss of leaving out all
    of R at once, which is about additive in networks with residual connections: one forward a layer in place of one a
    subset, and one exact knapsack. The student that remains is distilled afterwards, for which the paper has
    `norm_feature`.

    Args:
        model: the trained network, which is not changed.
        layers: paths of those that may go, each with an output of the shape of its first input, none in another:
            blocks with a residual connection.
        output: of a network on a few samples, such as `lambda net: net(images)`; in evaluation mode.
        share: of all parameters to leave out at least. Those that other parts of the network have as well stay, and do
            not count as left out.

    Raises:
        KeyError: there is no such layer.
        ValueError: a share out of range or beyond what the layers have; or a layer within another, that is not called
            once, or whose output has another shape than its input; or an output that is not finite.

    Paper: Zhang et al., "LAPTOP-Diff: Layer Pruning and Normalized Distillation for Compressing Diffusion Models",
    2024. The mean over the entries of the output is ours, and changes no choice.

    >>> net = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(3)))
    >>> for layer, scale in zip(net, (1.0, 5.0, 1.1)):
    ...     _ = layer.weight.data.copy_(scale * torch.eye(2))
    >>> prune_layers(net, ["0", "1", "2"], lambda net: net(torch.ones(1, 2)), share=0.5).removed
    ['0', '2']
    """
    parts = _parts(model, layers)
    uses = Counter(id(each) for _, each in model.named_parameters(remove_duplicate=False))
    sizes = [sum(each.numel() for each in part.parameters() if uses[id(each)] == 1) for part in parts]
    whole = sum(each.numel() for each in model.parameters())
    if not 0 < share < 1 or sum(sizes) < share * whole:
        raise ValueError(
            f"prune_layers: share is above 0 and below 1, and the layers have {sum(sizes):,} of {whole:,} parameters; "
            f"got {share}"
        )
    student = copy.deepcopy(model)
    passed = dict(zip(layers, _stand_ins(student, layers, output)))
    with torch.no_grad(), at_rest(student):
        before = output(student)
        losses = {path: _without(student, {path: passed[path]}, output, before) for path in layers}
        for path, each in losses.items():
            if not math.isfinite(each):
                raise ValueError(f"prune_layers: without {path!r} the output changes by {each}: is it finite?")
        chosen = least_loss(list(losses.values()), sizes, share * whole)
        removed = [layers[place] for place in chosen]
        loss = _without(student, {path: passed[path] for path in removed}, output, before)
    for path in removed:
        _put(student, path, passed[path])
    return Pruned(student, removed, losses, sum(losses[path] for path in removed), loss)


def without_layers(model: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Put a `Passed` in the place of each of these layers, in the model itself, and return it.

    Args:
        model: the network.
        layers: paths, as `prune_layers` found them.

    Raises:
        KeyError: there is no such layer; names the nearest.
        ValueError: none is given, one twice or within another, or a residual block that has a `downsample`: it changes
            the shape of its input.

    >>> net = without_layers(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["1"])
    >>> [type(each).__name__ for each in net]
    ['Linear', 'Passed']
    """
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers is a list of paths of layers to leave out, got {layers!r}")
    for path, part in zip(layers, _parts(model, layers)):
        if getattr(part, "downsample", None) is not None:
            raise ValueError(f"prune_layers: {path!r} changes the shape of its input and cannot be left out")
    for path in layers:
        _put(model, path, Passed())
    return model


def _parts(model: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    """The layers of these paths, none of which is within another."""
    parts = [find(model, path) for path in layers]
    for path in layers:
        inside = [other for other in layers if other.startswith(f"{path}.")]
        if inside or list(layers).count(path) > 1:
            raise ValueError(f"prune_layers: {inside[0] if inside else path!r} is left out with {path!r} already")
    return parts


def least_loss(losses: Sequence[float], costs: Sequence[int], need: float) -> list[int]:
    """Choose items that cost `need` or more together, and lose the least: a 0-1 knapsack, solved exactly.

    Args:
        losses: of each item, not negative.
        costs: likewise.
        need: at most the sum of the costs.

    Returns:
        the places of the items, in their order.

    >>> least_loss([1.0, 5.0, 2.0], [10, 40, 20], need=30)
    [0, 2]
    """
    front: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())]  # of chosen sets cost, loss, and items
    for item, (loss, cost) in enumerate(zip(losses, costs)):
        more = [(min(have + cost, need), lost + loss, (*items, item)) for have, lost, items in front]
        front, least, every = [], float("inf"), [*front, *more]
        for each in sorted(every, key=lambda one: (-one[0], one[1])):
            if each[1] < least:  # else one that is as costly or costlier loses no more
                least = each[1]
                front.append(each)
    if front[0][0] < need:
        raise ValueError(f"least_loss: all items cost {sum(costs)}, less than the {need} that are needed")
    return list(front[0][2])


def _stand_ins(model: nn.Module, layers: Sequence[str], output: Callable[[nn.Module], Tensor]) -> list[Passed]:
    """What may stand for each layer, by what it is given and yields in one forward."""
    calls: dict[str, list[tuple[Any, Any]]] = {path: [] for path in layers}

    def record(path: str) -> Any:
        return lambda module, args, result: calls[path].append((args[0] if args else None, result))

    hooks = [find(model, path).register_forward_hook(record(path)) for path in layers]
    try:
        with torch.no_grad(), at_rest(model):
            output(model)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for path, each in calls.items():
        if len(each) != 1:
            raise ValueError(
                f"prune_layers: {path!r} is called {len(each)} times in a forward, and must be called once"
            )
        (given, result) = each[0]
        in_tuple = isinstance(result, tuple) and len(result) == 1
        result = result[0] if in_tuple else result
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in (given, result)]
        if not isinstance(given, Tensor) or shapes[0] != shapes[1]:
            raise ValueError(
                f"prune_layers: {path!r} yields {shapes[1]} of {shapes[0]}: only a layer that keeps the shape of its "
                "input can be left out"
            )
        found.append(Passed(in_tuple))
    return found


def _without(
    model: nn.Module, passed: dict[str, Passed], output: Callable[[nn.Module], Tensor], before: Tensor
) -> float:
    """Mean squared change of the output without some layers, which are put back afterwards."""
    kept = {path: model.get_submodule(path) for path in passed}
    for path, each in passed.items():
        _put(model, path, each)
    try:
        return (output(model) - before).double().square().mean().item()
    finally:
        for path, layer in kept.items():
            _put(model, path, layer)


def _put(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
