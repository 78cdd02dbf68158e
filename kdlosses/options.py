"""Options of a loss: their names, types and bounds."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from kdlosses.ground import CONTEXT, Ground

_UNBOUND = Ground()
_COLDEST, _HOTTEST = 1e-6, 1e7
_LISTS = {list, tuple, Sequence}
_TEMPERATURES = {"tau", "student_tau", "teacher_tau", "subclass_tau", "tau_min", "tau_max", "temperature"}


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """Format the `count` entries of `known` closest to `word`, for an error message."""
    known = sorted(known)
    found = difflib.get_close_matches(word, known, n=count, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"known: {', '.join(known) or 'none'}"


def check_known(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError if there is an option that `what` does not have.

    >>> check_known("head 'mlp'", ["width"], ["wide", "dropout"])
    Traceback (most recent call last):
    TypeError: head 'mlp' has no option 'width'; did you mean 'wide'?
    """
    known = list(known)
    for key in options:
        if key not in known:
            raise TypeError(f"{what} has no option {key!r}; {nearest(key, known)}")


def checked_seeds(seeds: Any) -> list[int]:
    """The seeds: so many from 0, or those of a list.

    Raises:
        TypeError: it is neither a whole number nor a list of them.
        ValueError: there is no seed, one twice, or one that is not from 0 to 2^32 - 1.

    >>> checked_seeds(2), checked_seeds([3, 5])
    ([0, 1], [3, 5])
    """
    one = isinstance(seeds, numbers.Integral)
    if isinstance(seeds, bool | str) or not (one or isinstance(seeds, Iterable)):
        raise TypeError(f"seeds is how many to run, or a list of which, got {seeds!r}")
    several = list(range(int(seeds)) if one else seeds)
    if any(isinstance(each, bool) or not isinstance(each, numbers.Integral) for each in several):
        raise TypeError(f"seeds is how many to run, or a list of which, got {seeds!r}")
    found = [int(each) for each in several]
    if not found or len(set(found)) < len(found) or min(found) < 0 or max(found) >= 1 << 32:
        raise ValueError(
            f"seeds is how many to run, at least 1, or which, each once, from 0 to 2**32 - 1; got {seeds!r}"
        )
    return found


@functools.lru_cache(512)
def options_of(kind: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Hyper-parameters of a loss with their annotations as types; of a class those of its `__init__`, without self."""
    try:
        parameters = inspect.signature(kind, eval_str=True).parameters.values()
    except (NameError, AttributeError, TypeError, SyntaxError):  # annotations that only a type checker can read
        parameters = inspect.signature(kind).parameters.values()
    return {p.name: p for p in parameters if p.name not in (*CONTEXT, "student", "teacher")}


def checked(name: str, kind: Callable[..., Any], options: Mapping[str, Any], complete: bool = True) -> dict[str, Any]:
    """Check the options of a loss and convert NumPy numbers; raise on an unknown option or an invalid value.

    >>> import numpy as np
    >>> from kdlosses import kl
    >>> checked("kl", kl, dict(tau=np.float32(2.0)))
    {'tau': 2.0}
    """
    known = options_of(kind)
    found = {}
    for key, value in options.items():
        if key in CONTEXT:
            raise TypeError(
                f"loss {name!r}: {key!r} is passed at each call, it is not an option"
                + (" (the weight of a loss belongs beside it, in its entry)" if key == "weight" else "")
            )
        if key not in known:
            moved = getattr(kind, "moved", None)  # of a loss whose name was another's
            hint = f"; {moved}" if isinstance(moved, str) else ""
            raise TypeError(f"loss {name!r} has no option {key!r}; {nearest(key, known)}{hint}")
        found[key] = _checked(f"loss {name!r}: ", known[key], value, getattr(kind, "ground", Ground()))
    missing = [key for key, option in known.items() if option.default is option.empty and key not in options]
    if missing and complete:
        called = {"student", "teacher"} <= inspect.signature(kind).parameters.keys() or inspect.isclass(kind)
        hint = "" if called else "; a function that is a loss calls its first two arguments student and teacher"
        raise TypeError(f"loss {name!r} requires the option {missing[0]!r}{hint}")
    return found


def typed(
    where: str, function: Callable[..., Any], options: Mapping[str, Any], ground: Ground = _UNBOUND
) -> dict[str, Any]:
    """Check the options of any function against its annotations and convert NumPy numbers; raise on another type.

    A number out of the bounds of `ground` raises, too, see `kdlosses.register`.

    >>> def recipe(model, *, lam: float = 0.5): ...
    >>> typed("method 'recipe': ", recipe, dict(lam="half"))
    Traceback (most recent call last):
    TypeError: method 'recipe': lam must be a number, got 'half'
    """
    known = options_of(function)
    return {
        key: _checked(where, known[key], value, ground) if key in known else value for key, value in options.items()
    }


def _checked(where: str, option: inspect.Parameter, value: Any, ground: Ground) -> Any:
    key, kinds, choices = option.name, *_kinds(option)
    if choices and value not in choices:
        raise ValueError(f"{where}{key} must be {' or '.join(map(repr, choices))}, got {value!r}")
    if kinds is None or value is None:
        if value is None and kinds is not None and type(None) not in kinds:
            raise TypeError(f"{where}{key} must be {_named(kinds)}, got None")
        return _finite(where, key, _listed(where, option, value))
    logical = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's, under either name
    if logical and bool in kinds:
        return bool(value)
    if isinstance(value, str) and str in kinds:
        return value
    if logical or not isinstance(value, numbers.Real) or not {int, float} & kinds:
        raise TypeError(f"{where}{key} must be {_named(kinds)}, got {value!r}")
    number: int | float = int(value) if isinstance(value, numbers.Integral) else float(value)
    if float not in kinds and not isinstance(number, int):
        raise TypeError(f"{where}{key} must be a whole number, got {value!r}")
    if math.isnan(number) or (math.isinf(number) and not (number > 0 and key in ground.infinite)):
        raise ValueError(f"{where}{key} must be finite, got {value!r}")
    if key in _TEMPERATURES:
        named = f"{where}the temperature{'' if key == 'temperature' else ' ' + key} must be"
        if not number > 0:
            raise ValueError(f"{named} positive, got {value!r}")
        if not _COLDEST <= number <= _HOTTEST and key not in ground.infinite:
            raise ValueError(f"{named} from {_COLDEST:g} to {_HOTTEST:g}, got {value!r}: no gradient is left there")
    if ground.least is None or key == "ignore_index":
        return number
    default = option.default if isinstance(option.default, int | float) else 1
    least = ground.least.get(key, 1 if float not in kinds and default > 0 else 0)
    if number < min(least, default):
        raise ValueError(f"{where}{key} must be at least {least}, got {value!r}")
    if number > ground.most.get(key, math.inf):
        raise ValueError(f"{where}{key} must be at most {ground.most[key]}, got {value!r}")
    return number


def _listed(where: str, option: inspect.Parameter, value: Any) -> Any:
    """A list where an option takes one alone, arrays and tensors among them; all else as it is."""
    stated = option.annotation
    kinds = get_args(stated) if get_origin(stated) in (Union, types.UnionType) else (stated,)
    plain = [get_origin(kind) or kind for kind in kinds if kind is not type(None)]
    if value is None or not plain or not all(isinstance(kind, type) and kind in _LISTS for kind in plain):
        return value
    if getattr(value, "ndim", 0) == 1 and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{where}{option.name} must be a list, got {value!r}")
    return value


def _kinds(option: inspect.Parameter) -> tuple[set[type] | None, tuple[Any, ...]]:
    """The plain types that an option takes, None where it takes others as well; and its choices, where it has some."""
    stated = option.annotation
    if get_origin(stated) is Literal:
        return None, get_args(stated)
    if stated is option.empty or isinstance(stated, str):
        default = type(option.default)
        return ({default} if default is bool else {int, float} if default in (int, float) else None), ()
    kinds = {*get_args(stated)} if get_origin(stated) in (Union, types.UnionType) else {stated}
    return (kinds, ()) if kinds <= {int, float, bool, str, type(None)} else (None, ())


def _named(kinds: set[type]) -> str:
    words = {bool: "True or False", str: "a string", int: "a whole number", float: "a number", type(None): "None"}
    return " or ".join(words[kind] for kind in words if kind in kinds and not (kind is int and float in kinds))


def _finite(where: str, key: str, value: Any) -> Any:
    """The numbers in a list, finite and plain; all else as it is."""
    if isinstance(value, list | tuple):
        return type(value)(_finite(where, key, each) for each in value) if type(value) in (list, tuple) else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if not math.isfinite(value):
        raise ValueError(f"{where}{key} must be finite, got {value!r}")
    return int(value) if isinstance(value, numbers.Integral) else float(value)
