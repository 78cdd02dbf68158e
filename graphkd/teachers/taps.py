"""The hidden layers of any graph network, read at module paths while it runs once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.options import nearest
from kdlosses.taps import Taps, find, never_fired


def with_taps(network: nn.Module, taps: Sequence[str] | None) -> nn.Module:
    """The network with the paths where its hidden layers are read; the one given stays as it was.

    Both share their parameters.

    Args:
        network: any module.
        taps: `'path'` (output of a module), `'path:i'` (item i of a tuple) or `'path:in'` (its input), `':i'` (of
            what the network itself returns), first layer to last. None finds them, see `hidden_layers`.

    Raises:
        TypeError: taps are no list of strings.
        KeyError: no such module; names the nearest.

    >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> hidden_layers(with_taps(network, ["1"]), lambda each: each(torch.ones(5, 4)), 5)[0][0].shape
    torch.Size([5, 3])
    """
    if taps is None:
        return network
    if isinstance(taps, str) or not isinstance(taps, Sequence) or not all(isinstance(each, str) for each in taps):
        raise TypeError(f"taps is a list of paths of modules, ['convs.0', 'convs.1'], got {taps!r}")
    if isinstance(network, torch.jit.ScriptModule):
        raise TypeError(f"a scripted module, {network.original_name}, takes no taps: tap it before torch.jit.script")
    for part in (part for tap in taps for part in tap.split("+")):
        find(network, part.partition(":")[0], part.startswith(":"))
    tapped = copy.copy(network)
    tapped.hidden_taps = tuple(taps)  # type: ignore[assignment]
    return tapped


def hidden_layers(
    network: nn.Module, forward: Callable[[nn.Module], Tensor], nodes: int
) -> tuple[list[Tensor], Tensor]:
    """Hidden layers `(N, d)` of a network, and what `forward(network)` returns.

    Read where its attribute `hidden_taps` says, see `with_taps`. Without one: what PyG's message-passing layers
    yield, in the order in which they run, as far as that is `(N, d)`; the last one is left out where it is as wide as
    the logits, which it then makes.

    Raises:
        ValueError: a tap never fired, or yields something else; names those that would do.
    """
    taps = getattr(network, "hidden_taps", None)
    if taps is not None:
        return _read(network, taps, forward, nodes)
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, out: Any) -> None:
        if fits(out, nodes):
            found.append(out.clone())  # an activation in place may overwrite it

    hooks = [module.register_forward_hook(keep) for _, module in message_passing(network)]
    try:
        logits = forward(network)
    finally:
        for hook in hooks:
            hook.remove()
    if found and found[-1].shape == logits.shape:
        found.pop()
    return [layer.float().cpu() for layer in found], logits


def _read(
    network: nn.Module, taps: Sequence[str], forward: Callable[[nn.Module], Tensor], nodes: int
) -> tuple[list[Tensor], Tensor]:
    fired: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            fired[name] = tuple(out.shape) if isinstance(out, Tensor) else ()

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        # in inference mode nothing would say that a layer was overwritten in place after it was read
        with torch.inference_mode(False), torch.no_grad(), Taps(network, taps) as reader:
            logits = forward(network)
    except IndexError as error:
        raise ValueError(str(error)) from error
    finally:
        for hook in hooks:
            hook.remove()
    fitting = [name for name, shape in fired.items() if len(shape) == 2 and shape[0] == nodes]
    found: list[Tensor] = []
    for tap in taps:
        silent = [part for part in reader.specs[tap] if part in reader.silent()]
        if silent:
            raise ValueError(never_fired(network, silent[0], fitting))
        try:
            layers = reader[tap]
        except RuntimeError as error:  # overwritten
            raise ValueError(str(error)) from error
        for tensor in layers:
            if not fits(tensor, nodes):
                raise ValueError(
                    f"tap {tap!r} of {type(network).__name__} yields {tuple(tensor.shape)}, expected a hidden layer "
                    f"({nodes}, d); {nearest(tap, fitting)}"
                )
            found.append(tensor.float().cpu())
    return found, logits


def fits(out: Any, nodes: int) -> bool:
    """Whether an output is a hidden layer `(N, d)`."""
    return isinstance(out, Tensor) and out.layout is torch.strided and out.ndim == 2 and len(out) == nodes


def message_passing(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The outermost message-passing layers of PyG in a network."""
    from torch_geometric.nn import MessagePassing

    if isinstance(network, torch.jit.ScriptModule):
        return []  # takes no hooks
    found: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") or not outer for outer, _ in found)
        if isinstance(module, MessagePassing) and not inside:
            found.append((name, module))
    return found
