"""Which channels of a network stand and fall together: found by following one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from kdlosses.taps import at_rest, tensors_in

Forward = Callable[[Any], Any]
"""Runs a network on an image or a batch of them."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# names without underscores around them, which what works in place and operators have
_PER_CHANNEL = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "elu", "selu", "silu", "mish", "gelu", "sigmoid", "tanh", "hardswish"),
        *("hardsigmoid", "hardtanh", "clamp", "clamp_min", "abs", "square", "neg", "dropout", "dropout2d"),
        *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d"),
        *("adaptive_max_pool2d", "interpolate", "upsample", "contiguous", "clone", "detach", "to", "float", "double"),
        *("half", "bfloat16", "type", "type_as"),
    )
)
_ELEMENTWISE = frozenset(
    (
        *("add", "radd", "iadd", "sub", "rsub", "isub", "subtract", "mul", "rmul", "imul", "multiply"),
        *("div", "divide", "true_divide", "truediv", "itruediv", "maximum", "minimum"),
    )
)


@dataclass
class ChannelLayer:
    """A convolution, a linear layer or a batch norm of a network, with the channels that it reads and writes.

    Attributes:
        path: of the module.
        module: itself.
        reads: number of the channel that each input channel is, see `Coupled.root`.
        writes: likewise of the outputs; of a depthwise convolution and of a batch norm the same list.
        norms: paths of the batch norms that read its output.
    """

    path: str
    module: nn.Module
    reads: list[int]
    writes: list[int]
    norms: list[str] = field(default_factory=list)

    @property
    def makes(self) -> bool:
        """Whether it makes its output channels of others, as a batch norm and a depthwise convolution do not."""
        return self.reads is not self.writes


class Coupled:
    """Channels of a network as numbers: those that must be removed together have one `root`.

    Attributes:
        layers: those with channels that may be removed, by path, in the order of the forward.
    """

    def __init__(self) -> None:
        self.layers: dict[str, ChannelLayer] = {}
        self._parents: list[int] = []
        self._fixed: set[int] = set()

    def new(self, count: int) -> list[int]:
        """Channels that are coupled to none."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return list(range(start, start + count))

    def root(self, channel: int) -> int:
        """The number that all channels coupled to this one share."""
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel

    def couple(self, some: Sequence[int], others: Sequence[int]) -> None:
        """Couple channels one by one."""
        for one, other in zip(some, others, strict=True):
            first, second = self.root(one), self.root(other)
            self._parents[second] = first
            if second in self._fixed:
                self._fixed.add(first)

    def fix(self, channels: Iterable[int]) -> None:
        """Say that these stay: something reads them in a way that is not followed."""
        self._fixed.update(map(self.root, channels))

    def fixed(self, channel: int) -> bool:
        """Whether a channel stays."""
        return self.root(channel) in self._fixed


@torch.no_grad()
def coupled_channels(model: nn.Module, forward: Forward) -> Coupled:
    """Find which channels of a network are coupled, by following them through one forward.

    A convolution or linear layer makes new channels. What is added or multiplied elementwise is coupled channel by
    channel, as the branches of a residual block and the top-down path of a feature pyramid are; a concatenation puts
    channels side by side; a batch norm, a depthwise convolution, an activation, pooling or resizing hands them on; a
    layer that is called for several levels couples what it reads. What any other operation reads stays: group norms,
    reshapes, splits, grouped and transposed convolutions, attention, and what the network returns.

    Args:
        model: any network of images with channels in axis 1. It does not change, and runs in evaluation mode.
        forward: runs it such that every layer is reached.

    Raises:
        ValueError: a layer is not reached, so that nothing is known of what it reads.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    >>> found = coupled_channels(net, lambda net: net(torch.zeros(1, 3, 8, 8)))
    >>> found.layers["0"].writes == found.layers["3"].reads, found.layers["0"].norms
    (True, ['1'])
    >>> found.fixed(found.layers["0"].writes[0]), found.fixed(found.layers["3"].writes[0])
    (False, True)
    """
    follow = _Follow(model)
    with at_rest(model), follow:
        returned = forward(model)
    found = follow.found
    for tensor in tensors_in(returned):
        found.fix(follow.labels.get(tensor, ()))
    quiet = [path for path in follow.owners.values() if path not in follow.reached]
    if quiet:
        raise ValueError(
            f"the forward does not reach {', '.join(quiet[:3])}{f' and {len(quiet) - 3} more' if quiet[3:] else ''}: "
            "what these layers read is not known, so nothing is removed; give a forward that reaches them"
        )
    for layer in found.layers.values():  # what no batch norm scales has no scale to be judged by
        if layer.makes and not layer.norms:
            found.fix(layer.writes)
    return found


class _Follow(TorchFunctionMode):
    """Labels the channels of every tensor while a network runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found, self.reached = Coupled(), set[str]()
        self.labels: Any = WeakTensorKeyDictionary()  # of tensors, numbers of their channels
        self.made_by: Any = WeakTensorKeyDictionary()  # and paths of the layers that they are the output of
        self.modules = dict(model.named_modules())
        self.owners: dict[int, str] = {}
        shared: set[int] = set()  # by two layers: cutting it for one would cut it for the other
        for path, module in self.modules.items():
            weight = getattr(module, "weight", None)
            if isinstance(module, (*_CONVOLUTIONS, nn.Linear, _BatchNorm)) and isinstance(weight, nn.Parameter):
                if id(weight) in self.owners:
                    shared.add(id(weight))
                self.owners[id(weight)] = path
        self.owners = {key: path for key, path in self.owners.items() if key not in shared}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.reached.update(self.owners[id(each)] for each in tensors_in([args, kwargs]) if id(each) in self.owners)
        name = getattr(func, "__name__", "")
        known = self._known(name, result, args, kwargs) if isinstance(result, Tensor) and result.ndim > 1 else None
        if known is not None:
            self.labels[result] = known
        elif name == "__setitem__" or any(True for _ in tensors_in(result)):
            for tensor in tensors_in([args, kwargs]):
                self.found.fix(self.labels.get(tensor, ()))
        return result

    def _known(self, name: str, result: Tensor, args: Any, kwargs: Any) -> list[int] | None:
        """The channels of what an operation returns; None where it is not followed."""
        weight = next((each for each in tensors_in([args[1:], kwargs]) if id(each) in self.owners), None)
        if name in ("conv1d", "conv2d", "conv3d", "linear", "batch_norm") and args and isinstance(args[0], Tensor):
            return None if weight is None else self._layer(self.owners[id(weight)], args[0], result)
        if name.strip("_") in _ELEMENTWISE:
            return self._elementwise(result, [*args, *kwargs.values()])
        if name in ("cat", "concat", "concatenate"):
            parts = args[0] if args else kwargs["tensors"]
            axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
            return self._joined(parts, axis % result.ndim)
        if not args or not isinstance(args[0], Tensor) or args[0] not in self.labels:
            return None
        x, own = args[0], self._labels(args[0])
        if name.strip("_") in _PER_CHANNEL:
            return own if result.ndim == x.ndim and result.shape[1] == x.shape[1] else None
        if name == "pad":
            widths = args[1] if len(args) > 1 else kwargs["pad"]
            return own if len(widths) <= 2 * (x.ndim - 2) else None
        if name == "flatten" and tuple(args[1:]) == (1,) and not kwargs:
            return [each for each in own for _ in range(result.shape[1] // len(own))]
        if name in ("mean", "sum", "amax"):
            axes = args[1] if len(args) > 1 else kwargs.get("dim", ())
            axes = [axes] if isinstance(axes, int) else list(axes)
            return own if axes and all(axis % x.ndim > 1 for axis in axes) else None
        return None

    def _labels(self, tensor: Tensor) -> list[int]:
        """The channels of a tensor; of one that comes from elsewhere some that stay."""
        if tensor not in self.labels:
            self.labels[tensor] = self.found.new(tensor.shape[1] if tensor.ndim > 1 else 0)
            self.found.fix(self.labels[tensor])
        return self.labels[tensor]

    def _layer(self, path: str, x: Tensor, result: Tensor) -> list[int] | None:
        module: Any = self.modules[path]
        if isinstance(module, nn.Linear) and x.ndim != 2:
            return None
        groups = getattr(module, "groups", 1)
        if groups != 1 and not groups == module.in_channels == module.out_channels:
            return None
        reads = self._labels(x)
        if path in self.found.layers:
            self.found.couple(self.found.layers[path].reads, reads)
            layer = self.found.layers[path]
        else:
            passes = isinstance(module, _BatchNorm) or groups > 1
            layer = ChannelLayer(path, module, reads, reads if passes else self.found.new(result.shape[1]))
            self.found.layers[path] = layer
        maker = self.made_by.get(x)
        if isinstance(module, _BatchNorm):
            if maker is not None and path not in self.found.layers[maker].norms:
                self.found.layers[maker].norms.append(path)
        else:
            self.made_by[result] = path
        return layer.writes

    def _elementwise(self, result: Tensor, given: list[Any]) -> list[int] | None:
        """Couple what is added; what has one channel, or is a number, says nothing of channels."""
        whole = [each for each in given if isinstance(each, Tensor) and each.numel() > 1]
        if any(each.ndim != result.ndim for each in whole):
            return None
        whole = [each for each in whole if each.shape[1] == result.shape[1]]
        if not any(each in self.labels for each in whole):
            return None
        first, *others = map(self._labels, whole)
        for other in others:
            self.found.couple(first, other)
        return first

    def _joined(self, parts: Sequence[Tensor], axis: int) -> list[int] | None:
        if not any(each in self.labels for each in parts):
            return None
        labels = [self._labels(each) for each in parts]
        if axis == 1:
            return [each for some in labels for each in some]
        for other in labels[1:]:
            self.found.couple(labels[0], other)
        return labels[0]
