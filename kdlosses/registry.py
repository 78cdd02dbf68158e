"""The registry that both siblings share: `register` a loss once, `build` it by name from any config."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor, nn

Match = Literal["shape", "positions", "channels", "samples", "inner"]
LossLike = Callable[..., Tensor] | type[nn.Module]
T = TypeVar("T", bound=LossLike)

LOSSES: dict[str, LossLike] = {}
"""Every registered loss by its key."""

CONTEXT = (
    *("weight", "labels", "label_map", "boxes", "boxes_bev", "masks", "edge_index", "batch", "point_counts"),
    *("progress", "epoch"),
    *("student_logits", "teacher_logits"),
)
"""What a loss may ask for by naming an argument so; whoever calls the loss hands in what it has."""

_FROM_HEAD = {"ignore_index"}  # filled in although a loss has a default: the one who knows is right
_RESERVED = {"loss_weight", "reduction"}  # they belong to the entry that uses the loss, not to the loss


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """Format the `count` entries of `known` that are most like `word`, for an error message."""
    known = sorted(known)
    found = difflib.get_close_matches(word, known, n=count, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"known: {', '.join(known) or 'none'}"


@overload
def register(loss: T) -> T: ...
@overload
def register(*, name: str | None = None, match: Match = "shape") -> Callable[[T], T]: ...
def register(loss: Any = None, *, name: str | None = None, match: Match = "shape") -> Any:
    """Register a function, or an `nn.Module` class whose `forward` has the same form, as a loss.

    The decorated loss is called as `loss(student, teacher, ...)` with tensors of shape `(N, C, *)`. The decorator gives
    every loss the same ground to stand on, so that its body is the formula alone: the teacher is detached, half
    precision is raised to float32, autocast is off, and shapes that do not fit are named in the error.

    Args:
        loss: first two arguments `student, teacher`; then hyper-parameters with defaults and context (see `CONTEXT`).
        name: registry key; the function's name, or the class's name in snake case, if not given.
        match: what must agree between student and teacher: the whole `shape`, the `positions` (every axis but the
            channel axis 1), the `channels` (axes 0 and 1), or only the number of `samples` (axis 0); `inner` for a
            policy, whose loss says it.

    A policy is a loss around another one: an `nn.Module` class that builds what its option `loss` says, and whose
    `forward` ends in `**context`, all the context there is, to be handed on to that loss.

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
        return functools.partial(register, name=name, match=match)
    key = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", loss.__name__).lower()
    if key in LOSSES:
        raise ValueError(f"loss {key!r} is registered already, by {LOSSES[key].__module__}")
    _check_signature(key, loss)
    LOSSES[key] = _grounded_class(loss, match) if isinstance(loss, type) else _grounded_function(loss, match)
    return LOSSES[key]


def build(spec: str | Mapping[str, Any] | Callable[..., Tensor] | nn.Module, **known: Any) -> Loss:
    """Build a loss from its key, from `dict(type=key, **options)`, or from a function or module of one's own.

    Args:
        spec: see above.
        known: what the caller knows, such as numbers of channels: the value of each option of that name that the loss,
            or one inside of it, cannot do without and the spec does not give; of `ignore_index` in any case.

    Raises:
        KeyError: no loss of that name; the message names the nearest.
        TypeError: a keyword that the loss does not have, a missing one, or a value of the wrong type.

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
        if kind not in LOSSES:
            raise KeyError(f"no loss is called {kind!r}; {nearest(kind, LOSSES)}")
        kind = LOSSES[kind]
    if not callable(kind):
        raise TypeError(f"a loss is a name, a dict with a 'type', a function or a module, not {type(kind).__name__}")
    if isinstance(kind, nn.Module):
        if options:
            raise TypeError(f"loss {name!r} is built already, it takes no options: {sorted(options)}")
        return Loss(name, kind, {})
    options, filled = _fill(kind, options, known)
    _check_options(name, kind, options)
    if isinstance(kind, type):
        return Loss(name, kind(**options), {}, filled)
    if not hasattr(kind, "match"):  # a plain function, never registered
        _check_signature(name, kind)
        kind = _grounded_function(kind, "shape")
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
    loss = LOSSES.get(kind) if isinstance(kind, str) else kind
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
    """

    match: Match
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

    def forward(self, student: Tensor, teacher: Tensor, **context: Any) -> Tensor:
        unknown = [key for key in context if key not in CONTEXT]
        if unknown:
            raise TypeError(
                f"loss {self.name!r} was handed unknown context {unknown[0]!r}; {nearest(unknown[0], CONTEXT)}"
            )
        missing = [key for key in self.requires if context.get(key) is None]
        if missing:
            raise TypeError(f"loss {self.name!r} needs {', '.join(map(repr, missing))}, which nobody handed in")
        taken = {key: context[key] for key in self.needs if key in context}
        return self.loss(student, teacher, **self.options, **taken)

    def active(self, **context: Any) -> bool:
        """Whether the loss can differ from 0 now; where it cannot, its caller may save the teacher's forward."""
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
            continue  # handed on to the loss inside, which checks it
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"loss {key!r}: *{parameter.name} would swallow a typo; name every argument")
        if parameter.name in _RESERVED:
            raise TypeError(
                f"loss {key!r}: {parameter.name!r} belongs to the entry that uses the loss, not to the loss"
            )


def _is_required(kind: Callable[..., Any], option: str) -> bool:
    arguments = inspect.signature(kind).parameters
    return option in arguments and arguments[option].default is inspect.Parameter.empty


def _check_options(name: str, kind: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(kind).parameters.values()  # of a class: those of its __init__, without self
    known = {p.name: p.default for p in parameters if p.name not in (*CONTEXT, "student", "teacher")}
    for key, value in options.items():
        if key in CONTEXT:
            raise TypeError(
                f"loss {name!r}: {key!r} is handed in at each call, it is no option"
                + (" (the weight of a loss belongs beside it, in its entry)" if key == "weight" else "")
            )
        if key not in known:
            raise TypeError(f"loss {name!r} has no option {key!r}; {nearest(key, known)}")
        number = isinstance(known[key], int | float) and not isinstance(known[key], bool)
        if number and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"loss {name!r}: {key} must be a number, got {value!r}")
        if key == "tau" and not value > 0:
            raise ValueError(f"loss {name!r}: the temperature tau must be positive, got {value!r}")
    missing = [key for key, default in known.items() if default is inspect.Parameter.empty and key not in options]
    if missing:
        raise TypeError(f"loss {name!r} needs the option {missing[0]!r}")


def _grounded_function(function: Callable[..., Tensor], match: Match) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def loss(student: Tensor, teacher: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _on_common_ground(function, match, student, teacher, *args, **kwargs)

    loss.match = match  # type: ignore[attr-defined]
    return loss


def _grounded_class(module: type[nn.Module], match: Match) -> type[nn.Module]:
    inner = module.forward

    @functools.wraps(inner)
    def forward(self: nn.Module, student: Tensor, teacher: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _on_common_ground(functools.partial(inner, self), match, student, teacher, *args, **kwargs)

    module.forward, module.match = forward, match  # type: ignore[attr-defined]
    return module


def _on_common_ground(
    body: Callable[..., Tensor], match: Match, student: Tensor, teacher: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Run the body of a loss on shapes that fit, in full precision, without autocast, with the teacher detached."""
    _check_shapes(body, match, student, teacher, kwargs)
    if student.numel() == 0:
        return _full(student).sum()
    student, teacher = _full(student), _full(teacher.detach())
    weight = kwargs.get("weight")
    if weight is not None:  # masked positions cannot matter, not even in the gradient of a NaN
        counts = (weight > 0).unsqueeze(1)
        student = torch.where(counts, student, 0)
        teacher = torch.where(counts, teacher, 0) if teacher.shape[2:] == student.shape[2:] else teacher
    with torch.autocast(student.device.type, enabled=False):
        return body(student, teacher, *args, **kwargs)


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _check_shapes(
    body: Callable[..., Tensor], match: Match, student: Tensor, teacher: Tensor, context: Mapping[str, Any]
) -> None:
    a, b = student.shape, teacher.shape
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"{_name(body)}: expected (N, C, *) tensors, got student {tuple(a)} and teacher {tuple(b)}")
    for name, value in (("student", student), ("teacher", teacher)):
        if not value.is_floating_point():
            raise TypeError(f"{_name(body)}: {name} must be floating point, got {value.dtype}")
    fits = {
        "shape": a == b,
        "positions": a[:1] + a[2:] == b[:1] + b[2:],
        "channels": a[:2] == b[:2],
        "samples": a[0] == b[0],
        "inner": True,  # the loss inside checks
    }[match]
    if not fits:
        raise ValueError(f"{_name(body)}: student {tuple(a)} and teacher {tuple(b)} must agree in {match}")
    for key in ("weight", "labels"):
        given = context.get(key)
        if given is not None and given.shape != a[:1] + a[2:]:
            raise ValueError(f"{_name(body)}: {key} must have shape {tuple(a[:1] + a[2:])}, got {tuple(given.shape)}")


def _name(body: Callable[..., Tensor]) -> str:
    return getattr(body, "__name__", None) or body.func.__qualname__.split(".")[0]  # type: ignore[attr-defined]
