"""Small learned heads between a feature and a loss: class logits of a hidden layer or of a stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.discover import find
from kdlosses.ground import Ground, full
from kdlosses.options import check_known, typed
from kdlosses.pointwise import Pointwise
from kdlosses.reduce import labelled, weighted_mean

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BOUNDS = Ground(least={}, most={"dropout": 1})


class Linear(Pointwise):
    """One linear map at every position."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes)


class TwoLayers(nn.Sequential):
    """Two linear maps at every position, ReLU and dropout between them.

    Args:
        channels: of the feature.
        classes: of the logits.
        wide: width of the hidden layer, that of the feature if not given.
        dropout: share of hidden units dropped in training.
    """

    def __init__(self, channels: int, classes: int, wide: int | None = None, dropout: float = 0.0) -> None:
        wide = wide or channels
        super().__init__(Pointwise(channels, wide), nn.ReLU(), nn.Dropout(dropout), Pointwise(wide, classes))


class Branch(nn.Sequential):
    """Separable 3x3 convolutions, each normalised over the channels of a position and followed by ReLU; a linear map.

    Where there is no space, as of nodes, the convolutions are linear maps.

    Args:
        channels: of the feature.
        classes: of the logits.
        wide: width of the hidden layers, that of the feature if not given.
        depth: number of convolutions.
        axes: axes of space: 0 of nodes, 2 of maps.
    """

    def __init__(self, channels: int, classes: int, wide: int | None = None, depth: int = 2, axes: int = 2) -> None:
        wide = wide or channels
        layers: list[nn.Module] = []
        for width in (channels, *(depth - 1) * [wide]):
            if axes:
                layers.append(_CONVOLUTIONS[axes](width, width, 3, padding=1, groups=width, bias=False))
            layers += [Pointwise(width, wide), _Norm(wide), nn.ReLU()]
        super().__init__(*layers, Pointwise(wide, classes))


class _Norm(nn.LayerNorm):
    """Layer normalisation over axis 1 of `(N, C, *)`: a position does not depend on the others."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


HEADS: dict[str, Callable[..., nn.Module]] = {"linear": Linear, "mlp": TwoLayers, "branch": Branch}
"""The heads by name; each is built of the channels of a feature and the classes of the logits."""


@dataclass(frozen=True)
class HeadSpec:
    """What an entry says of its head, checked; `build` makes the head for a feature.

    Attributes:
        name: of the head, for messages.
        make: what builds it, `make(channels, classes, **options)`.
        options: of `make`.
        classes: number of logits; None: as many as the loss compares them with.
        label_loss: weight of the head's own cross-entropy on labels, 0 for none.
    """

    name: str
    make: Callable[..., nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None
    label_loss: float = 0.0

    def build(self, feature: Tensor, classes: int) -> nn.Module:
        """Build the head for a feature `(N, C, *)` and so many classes, unless it has a number of its own.

        Raises:
            ValueError: what it makes of the feature are no logits `(N, classes, *)`.
        """
        classes = self.classes or classes
        own = {"axes": feature.ndim - 2} if self.make is Branch else {}
        if feature.ndim < 2 or feature.ndim > 5:
            raise ValueError(f"head {self.name!r} stands on nodes (N, C) or maps (N, C, *), got {tuple(feature.shape)}")
        head = self.make(feature.shape[1], classes, **own, **self.options).to(full(feature))
        wanted = (len(feature), classes, *feature.shape[2:])
        with torch.no_grad():
            found = head.eval()(full(feature))
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if got != wanted:
            raise ValueError(
                f"head {self.name!r} must make logits {wanted} of a feature {tuple(feature.shape)}, it makes {got}"
            )
        return head.train()


def head_spec(spec: Any) -> HeadSpec:
    """Check what an entry says of its head.

    Args:
        spec: a name in `HEADS`; `'module:name'` or a class of one's own, a `torch.nn.Module` that is built as
            `Own(channels, classes)`; or a dict with one of these as `type`, options of it, and beside them `classes`,
            the number of logits, and `label_loss`, the weight of the head's own cross-entropy on labels.

    Raises:
        KeyError: no head of that name; the message names the nearest.
        TypeError, ValueError: an option that it does not have, or out of range; something that is no head.

    >>> head = head_spec(dict(type="mlp", wide=4, label_loss=0.1)).build(torch.zeros(2, 3, 8, 8), classes=5)
    >>> head(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 5, 8, 8])
    >>> head_spec(dict(type="mlp", width=4))
    Traceback (most recent call last):
    TypeError: head 'mlp' has no option 'width'; did you mean 'wide'?
    """
    if isinstance(spec, HeadSpec):
        return spec
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    if "type" not in options:
        raise TypeError(f"a head dict needs a 'type', got {options!r}")
    kind = options.pop("type")
    name = kind.rpartition(":")[2] if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)
    make: Any = find("head", kind, HEADS) if isinstance(kind, str) else kind
    if not (isinstance(make, type) and issubclass(make, nn.Module)):
        raise TypeError(
            f"a head is one of {', '.join(map(repr, HEADS))}, 'module:name' or a class of torch.nn.Module, built as "
            f"Own(channels, classes), not {kind!r}"
        )
    where, given = f"head {name!r}: ", typed(f"head {name!r}: ", _of_any, options, _BOUNDS)
    own = {key: given.pop(key) for key in [*given] if key not in ("classes", "label_loss")}
    known = [each for each in [*inspect.signature(make).parameters][2:] if each != "axes"]
    check_known(f"head {name!r}", own, [*known, "classes", "label_loss"])
    own = typed(where, make, own, _BOUNDS)
    try:
        inspect.signature(make).bind(1, 1, **own)
    except TypeError as error:
        raise TypeError(f"{where}it is built as {name}(channels, classes, **options): {error}") from error
    return HeadSpec(name, make, own, **given)


def wrong_classes(classes: int | None, wanted: int) -> str:
    """What is wrong with a head of so many classes beside a tap of others.

    >>> wrong_classes(3, 10)
    'head=dict(classes=3) makes 3 logits, and the tap of the teacher yields 10: leave classes out, or tap what has 3'
    """
    return (
        f"head=dict(classes={classes}) makes {classes} logits, and the tap of the teacher yields {wanted}: leave "
        f"classes out, or tap what has {classes}"
    )


def _of_any(*, classes: int | None = None, label_loss: float = 0.0) -> None:
    """The options that every head has."""


def label_loss(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """Cross-entropy of logits `(N, C, *)` on the labels `(N, *)` that are neither negative nor `ignore_index`.

    >>> label_loss(torch.zeros(3, 2), torch.tensor([1, -1, 255])).item()
    0.6931...
    """
    labels, weight = labelled(labels, None, ignore_index, logits.shape[1])
    return weighted_mean(F.cross_entropy(full(logits), labels, reduction="none"), weight)
