"""The registry of losses, shared by all packages: `register` a loss once, `build` it by name from any config."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from kdlosses.discover import check_free, find
from kdlosses.ground import CONTEXT, Ground, Match, full, on_common_ground
from kdlosses.options import checked, nearest

LossLike = Callable[..., Tensor] | type[nn.Module]
T = TypeVar("T", bound=LossLike)

LOSSES: dict[str, LossLike] = {}
"""Every registered loss by its key."""

_FROM_HEAD = {"ignore_index"}  # filled in although a loss has a default: the caller's value is the right one
_RESERVED = {"loss_weight", "reduction"}  # they belong to the entry that uses the loss, not to the loss


@overload
def register(loss: T) -> T: ...
@overload
def register(
    *,
    name: str | None = None,
    match: Match = "shape",
    categorical: bool | None = None,
    maps: bool | None = None,
    over_classes: bool | None = None,
    middle: bool = False,
    least: Mapping[str, float] | None = None,
    infinite: Sequence[str] = (),
    most: Mapping[str, float] | None = None,
) -> Callable[[T], T]: ...
def register(
    loss: Any = None,
    *,
    name: str | None = None,
    match: Match = "shape",
    categorical: bool | None = None,
    maps: bool | None = None,
    over_classes: bool | None = None,
    middle: bool = False,
    least: Mapping[str, float] | None = None,
    infinite: Sequence[str] = (),
    most: Mapping[str, float] | None = None,
) -> Any:
    """Register a function, or an `nn.Module` class whose `forward` has the same form, as a loss.

    The decorated loss is called as `loss(student, teacher, ...)` with tensors of shape `(N, C, *)`. The decorator gives
    every loss the same ground to stand on, so that its body is the formula alone: the teacher is detached and has the
    student's precision, half precision is raised to float32, autocast is off, and options, shapes, types and devices
    that do not fit are named in the error. Negative weights and numbers of nodes or classes that do not exist are named
    on the CPU alone: on a GPU each such look would wait for the device, at every step.

    Numbers among the options must be finite, temperatures from 1e-6 to 1e7, whole numbers at least 1 (those whose
    default is 0 or less, and `ignore_index`, as the loss wants), all others at least 0.

    Args:
        loss: first two arguments `student, teacher`; then hyper-parameters with defaults and context (see `CONTEXT`).
        name: registry key; the function's name, or the class's name in snake case, if not given.
        match: what must agree between student and teacher: the whole `shape`, the `positions` (every axis but the
            channel axis 1), the `channels` (axes 0 and 1), or only the number of `samples` (axis 0); `inner` for a
            policy, whose loss says it.
        categorical: whether it compares the channels of a position with each other, as a softmax over classes does. One
            channel would say nothing and is refused. By default the losses of `kdlosses.logit` do.
        over_classes: whether its channels are class logits, of which it takes a softmax: a head with one sigmoid is one
            of two classes to it. By default the losses of `kdlosses.logit` do.
        maps: whether it needs maps `(N, C, H, W)`, and nodes are refused. By default the losses of `densekd` do.
        middle: whether it is for a middle layer of the student, so that logits are refused.
        least: least values of options for which the rule above does not hold.
        infinite: options that may be positive infinity.
        most: greatest values of options that have one.

    A policy is a loss around another one: an `nn.Module` class that builds what its option `loss` says, and whose
    `forward` ends in `**context`, all the context there is, to be passed on to that loss.

    Raises:
        TypeError: the signature breaks the contract.
        ValueError: the key is taken.

    >>> from kdlosses import weighted_mean
    >>> @register
    ... def brier(student, teacher, weight=None):
    ...     return weighted_mean((student.softmax(1) - teacher.softmax(1)).square().sum(1), weight)
    >>> build("brier")(torch.zeros(4, 3), torch.zeros(4, 3)).item()
    0.0
    >>> del LOSSES["brier"]
    """
    if loss is None:
        stated = dict(categorical=categorical, maps=maps, over_classes=over_classes, least=least, infinite=infinite)
        return functools.partial(register, name=name, match=match, middle=middle, most=most, **stated)
    key = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", loss.__name__).lower()
    check_free("loss", key, LOSSES)
    _check_signature(key, loss)
    ground = Ground(
        match,
        loss.__module__.startswith("kdlosses.logit.") if categorical is None else categorical,
        loss.__module__.startswith("densekd.") if maps is None else maps,
        loss.__module__.startswith("kdlosses.logit.") if over_classes is None else over_classes,
        middle,
        least or {},
        frozenset(infinite),
        most or {},
    )
    LOSSES[key] = (
        _grounded_class(loss, key, ground) if isinstance(loss, type) else _grounded_function(loss, key, ground)
    )
    return LOSSES[key]


def build(spec: str | Mapping[str, Any] | Callable[..., Tensor] | nn.Module, **known: Any) -> Loss:
    """Build a loss from its key, from `dict(type=key, **options)`, or from your own function or module.

    Your own loss may also be a string, `"package.module:name"`, which Python imports.

    Args:
        spec: see above.
        known: what the caller knows, such as numbers of channels: the value of each option of that name that the loss,
            or one inside of it, cannot do without and the spec does not give; of `ignore_index` in any case.

    Raises:
        KeyError: no loss of that name; the message names the nearest.
        TypeError: a keyword that the loss does not have, a missing one, a value of the wrong type, or something that
            cannot be called as `loss(student, teacher)`.
        ValueError: a number that is out of bounds; a module or a name in it that does not exist.

    >>> build("kl").needs
    ('weight',)
    >>> build(dict(type="kl", temperature=4.0))
    Traceback (most recent call last):
    TypeError: loss 'kl' has no option 'temperature'; known: tau
    >>> build("vid", student_channels=3, teacher_channels=4, classes=7).loss.variance().shape
    torch.Size([4])
    """
    if isinstance(spec, Loss):
        return spec
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    if "type" not in options:
        raise TypeError(f"a loss dict needs a 'type', got {options!r}")
    kind: Any = options.pop("type")
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)
    if isinstance(kind, str):
        kind, name = find("loss", kind, LOSSES, "losses"), name.rpartition(":")[2]
    if not callable(kind) or (isinstance(kind, type) and not issubclass(kind, nn.Module)):
        what = kind.__name__ if isinstance(kind, type) else type(kind).__name__
        raise TypeError(f"a loss is a name, 'module:name', a dict with a 'type', a function or a module, not {what}")
    if isinstance(kind, Loss):
        if options:
            raise TypeError(f"loss {name!r} is built already, it takes no options: {sorted(options)}")
        return kind
    if not hasattr(kind, "ground"):
        _check_callable(name, kind)
    if isinstance(kind, nn.Module):
        if options:
            raise TypeError(f"loss {name!r} is built already, it takes no options: {sorted(options)}")
        return Loss(name, kind, {})
    options, filled = _fill(kind, options, known)
    options = checked(name, kind, options)
    if isinstance(kind, type):
        return Loss(name, kind(**options), {}, filled)
    if not hasattr(kind, "ground"):  # a plain function, never registered
        _check_signature(name, kind)
        kind = _grounded_function(kind, name, Ground(getattr(kind, "match", "shape")))
    return Loss(name, kind, options, filled)


def _fill(kind: Any, options: dict[str, Any], known: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Options with what the loss, or one that they name, cannot do without; and which of `known` that was."""
    arguments = inspect.signature(kind).parameters
    asked = [key for key in arguments if _is_required(kind, key) or key in _FROM_HEAD]
    found = {key: value for key, value in known.items() if key not in options and key in asked}
    filled = set(found)
    for key in ("loss", "losses"):
        spec = options.get(key, arguments[key].default if key in arguments else None)
        if spec is None or spec is inspect.Parameter.empty:
            continue
        inner, inside = _fill_inside(spec, known)
        if key in options or inside:
            found[key] = inner
            filled |= inside
    return {**options, **found}, filled


def _fill_inside(spec: Any, known: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """The same for the spec of a loss in another, or a list of them, by themselves or in pairs with something else."""
    if isinstance(spec, list | tuple):
        parts = [_fill_inside(part, known) for part in spec]
        filled = {key for _, found in parts for key in found}
        return ([part for part, _ in parts], filled) if filled else (spec, filled)
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    kind = options.pop("type", None)
    loss = (find("loss", kind, LOSSES) if ":" in kind else LOSSES.get(kind)) if isinstance(kind, str) else kind
    if not callable(loss) or isinstance(loss, nn.Module):
        return spec, set()
    options, filled = _fill(loss, options, known)
    return ({"type": kind, **options}, filled) if filled else (spec, filled)


class Loss(nn.Module):
    """A loss with its options bound, as `build` returns it.

    Call it as `loss(student, teacher, **context)` with all the context there is: it takes what it names and no more.

    Attributes:
        name: the registry key.
        options: the hyper-parameters that were given.
        filled: names of those that the caller of `build` knew.
        needs: names of `CONTEXT` that the loss accepts, or a loss inside of it.
        requires: those of `needs` that it cannot do without.
        match: what must agree between the two tensors, see `register`.
        categorical: whether it, or a loss inside of it, needs two channels or more, see `register`.
        maps: whether it, or a loss inside of it, needs maps `(N, C, H, W)`, see `register`.
        middle: whether it, or a loss inside of it, is for a middle layer of the student, see `register`.
    """

    match: Match
    categorical: bool
    maps: bool
    middle: bool
    needs: tuple[str, ...]
    requires: tuple[str, ...]

    def __init__(
        self, name: str, loss: Callable[..., Tensor] | nn.Module, options: dict[str, Any], filled: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self.filled = frozenset(filled)
        self.name = name
        self.loss = loss
        self.options = options
        arguments = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters
        needs = {key for key in CONTEXT if key in arguments}
        requires = {key for key in needs if arguments[key].default is inspect.Parameter.empty}
        inner = [m for m in loss.modules() if isinstance(m, Loss)] if isinstance(loss, nn.Module) else []
        self.needs = tuple(key for key in CONTEXT if key in needs.union(*(each.needs for each in inner)))
        self.requires = tuple(key for key in CONTEXT if key in requires.union(*(each.requires for each in inner)))
        match: Match = getattr(loss, "match", "shape")
        self.match = inner[0].match if match == "inner" else match
        own: Ground | None = getattr(loss, "ground", None)
        self.categorical = bool(own and own.categorical) or any(each.categorical for each in inner)
        self.maps = bool(own and own.maps) or any(each.maps for each in inner)
        self.middle = bool(own and own.middle) or any(each.middle for each in inner)

    def forward(self, student: Tensor, teacher: Tensor, **context: Any) -> Tensor:
        unknown = [key for key in context if key not in CONTEXT]
        if unknown:
            raise TypeError(
                f"loss {self.name!r} received unknown context {unknown[0]!r}; {nearest(unknown[0], CONTEXT)}"
            )
        missing = [key for key in self.requires if context.get(key) is None]
        if missing:
            raise TypeError(
                f"loss {self.name!r} requires {', '.join(map(repr, missing))}; pass {'=..., '.join(missing)}=..."
            )
        taken = {key: context[key] for key in self.needs if key in context}
        value = self.loss(student, teacher, **self.options, **taken)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"loss {self.name!r} must return one number as a tensor, such as a mean; got {got}")
        return value

    def active(self, **context: Any) -> bool:
        """Whether the loss can differ from 0 now; if not, the caller can skip the teacher's forward pass."""
        active = getattr(self.loss, "active", None)
        return True if active is None else bool(active(**context))

    def extra_repr(self) -> str:
        return ", ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def _check_signature(key: str, loss: LossLike) -> None:
    called: Any = getattr(loss, "forward", loss)
    parameters = list(inspect.signature(called).parameters.values())[isinstance(loss, type) :]
    if [parameter.name for parameter in parameters[:2]] != ["student", "teacher"]:
        raise TypeError(f"loss {key!r}: the first two arguments must be 'student' and 'teacher'")
    policy = isinstance(loss, type) and {"loss", "losses"} & set(inspect.signature(loss).parameters)
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD and parameter.name == "context" and policy:
            continue  # passed on to the loss inside, which checks it
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"loss {key!r}: *{parameter.name} would hide a typo; name every argument")
        if parameter.name in _RESERVED:
            raise TypeError(
                f"loss {key!r}: {parameter.name!r} belongs to the entry that uses the loss, not to the loss"
            )


def _is_required(kind: Callable[..., Any], option: str) -> bool:
    arguments = inspect.signature(kind).parameters
    return option in arguments and arguments[option].default is inspect.Parameter.empty


def _check_callable(name: str, kind: Any) -> None:
    """Raise TypeError unless a class, module or function that was never registered can be called as a loss."""
    called = getattr(kind, "forward", kind)
    try:
        parameters = list(inspect.signature(called).parameters.values())[isinstance(kind, type) :]
    except ValueError:  # a builtin that does not show its arguments
        return
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    asked = [p for p in parameters if p not in positional[:2] and p.default is p.empty and p.name not in CONTEXT]
    options = {} if isinstance(kind, (nn.Module, type)) else {p.name for p in asked}
    asked = [p for p in asked if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in options]
    if len(positional) < 2 or asked:
        raise TypeError(
            f"{name!r} is no loss: a loss is called as loss(student, teacher, **context), this takes "
            f"({', '.join(p.name for p in parameters)})"
        )


def _grounded_function(function: Callable[..., Tensor], key: str, ground: Ground) -> Callable[..., Tensor]:
    names = list(inspect.signature(function).parameters)[2:]

    @functools.wraps(function)
    def loss(student: Tensor, teacher: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if len(args) > len(names):
            raise TypeError(f"loss {key!r} takes student, teacher and {', '.join(names) or 'nothing more'}")
        kwargs = {**dict(zip(names, args)), **kwargs}
        if not torch.compiler.is_compiling():
            options = {name: value for name, value in kwargs.items() if name not in CONTEXT}
            kwargs |= checked(key, loss, options, complete=False)
        return on_common_ground(function, key, ground, student, teacher, kwargs)

    loss.match, loss.ground = ground.match, ground  # type: ignore[attr-defined]
    return loss


def _grounded_class(module: type[nn.Module], key: str, ground: Ground) -> type[nn.Module]:
    inner, made = module.forward, module.__init__
    names, options = list(inspect.signature(inner).parameters)[3:], inspect.signature(made)

    @functools.wraps(inner)
    def forward(self: nn.Module, student: Tensor, teacher: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        kwargs = {**dict(zip(names, args)), **kwargs}
        own = next(self.parameters(), None)
        numbers = isinstance(student, Tensor) and student.is_floating_point()
        if own is not None and numbers and student.numel() and own.dtype != full(student).dtype:
            raise TypeError(
                f"{key}: its parameters are {own.dtype}, it computes in {full(student).dtype} for a student of "
                f"{student.dtype}; convert the loss with .to({full(student).dtype})"
            )
        widths = getattr(self, "_widths", {})
        return on_common_ground(functools.partial(inner, self), key, ground, student, teacher, kwargs, widths)

    @functools.wraps(made)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if type(self) is not module:  # a subclass, which has options of its own
            return made(self, *args, **kwargs)
        given = dict(list(options.bind_partial(self, *args, **kwargs).arguments.items())[1:])
        given = checked(key, module, given, complete=False)
        made(self, **given)
        whole = "channels" if ground.match == "shape" and _is_required(module, "channels") else ""
        widths = {"student": given.get("student_channels", given.get(whole)), "teacher": given.get("teacher_channels")}
        vars(self)["_widths"] = {side: width for side, width in widths.items() if width is not None}

    module.forward, module.match, module.ground = forward, ground.match, ground  # type: ignore[attr-defined]
    if "__init__" in vars(module):
        module.__init__ = init  # type: ignore[method-assign]
    return module
