"""Specs: names like `'ffg2m'`, `dict(type='ffg2m', tau=1.5)` or functions; number checks; JSON."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

from graphkd import moved
from kdlosses.discover import FromFile, find
from kdlosses.ground import Ground
from kdlosses.moved import warn_renamed
from kdlosses.options import check_known, typed

_GROUPS = {"method": "recipes", "teacher": "teachers"}
_BOUNDS = Ground(
    least={"hop": -math.inf, "bucket": 2}
    | dict.fromkeys(("hops", "steps", "epochs", "memory", "predictor", "start", "far", "pretrain"), 0),
    most={"dropout": 1},
)
"""Of options of recipes: whole numbers count from 1 but for these, all others are not negative."""


def resolve(
    what: str, spec: str | Mapping[str, Any] | Callable[..., Any], table: Mapping[str, Callable[..., Any]]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Look a name up and check its options against the function's keyword-only arguments.

    Returns:
        the function and its options, with numbers of NumPy as Python's.

    Raises:
        KeyError: no such name.
        TypeError: no such option, or a value of another type than its annotation says.
        ValueError: an option of a method is out of range.

    >>> def glnn(model, *, lam=0.0): ...
    >>> resolve("method", dict(type="glnn", lamb=0.5), {"glnn": glnn})
    Traceback (most recent call last):
    TypeError: method 'glnn' has no option 'lamb'; did you mean 'lam'?
    """
    if callable(spec):
        return spec, {}
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    name: Any = options.pop("type", None)
    if callable(name):
        function = name
    else:
        if what == "method" and isinstance(name, str) and name in moved.RECIPES:
            warn_renamed(f"the recipe {name!r}", repr(moved.RECIPES[name]), stacklevel=3)
            name = moved.RECIPES[name]
        function = find(what, name, table, _GROUPS.get(what))
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    check_known(f"{what} {getattr(name, '__name__', name)!r}", options, known)
    if what != "method":  # of teachers see `graphkd.pipeline.arguments`
        return function, plain(options)
    bounds = _BOUNDS if function in table.values() else Ground()  # of one's own methods nobody knows them
    return function, typed(f"method {getattr(name, '__name__', name)!r}: ", function, plain(options), bounds)


def plain(value: Any) -> Any:
    """Convert NumPy numbers to Python numbers, also inside lists, tuples and dicts.

    >>> plain(dict(lam=np.float64(0.5), hidden=(np.int64(16), 8)))
    {'lam': 0.5, 'hidden': (16, 8)}
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if type(value) is dict:
        return {key: plain(each) for key, each in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def whole(name: str, value: Any, least: int = 0) -> int:
    """Check a whole-number setting and return it as an int.

    Raises:
        ValueError: it is no whole number, or below `least`; names the setting.

    >>> whole("epochs", np.float32(20))
    20
    >>> whole("epochs", -1)
    Traceback (most recent call last):
    ValueError: epochs is a whole number from 0, got -1
    """
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number) or number < least:
        raise ValueError(f"{name} is a whole number from {least}, got {value!r}")
    return int(number)


def real(name: str, value: Any, least: float = 0.0, below: float = math.inf) -> float:
    """Check a real-number setting and return it as a float.

    Raises:
        ValueError: it is no number, or not in `[least, below)`; names the setting.

    >>> real("lr", float("inf"))
    Traceback (most recent call last):
    ValueError: lr is a finite number from 0, got inf
    """
    number = _number(value)
    if number is None or not least <= number < below:
        bounds = f"a finite number from {least:g}" + (f" and below {below:g}" if below < math.inf else "")
        raise ValueError(f"{name} is {bounds}, got {value!r}")
    return float(number)


def widths(name: str, value: Any) -> tuple[int, ...]:
    """Check the widths of layers; a number stands for one layer.

    Raises:
        ValueError: they are no whole numbers from 1; names the setting.

    >>> widths("hidden", np.array([64, 32])), widths("hidden", 64)
    ((64, 32), (64,))
    """
    if _number(value) is not None:
        value = [value]
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray | Tensor):
        raise ValueError(f"{name} holds the widths of layers, whole numbers from 1, got {value!r}")
    return tuple(whole(f"each width in {name}", width, 1) for width in value)


def _number(value: Any) -> int | float | None:
    """A number of Python, NumPy or PyTorch as Python's; None if it is something else."""
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0:
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def to_json(value: Any, names: Mapping[Any, str], foreign: list[str]) -> Any:
    """Convert a setting to JSON values, for `from_json`.

    Arrays become tuples. What JSON cannot hold, like a function or a module, becomes its name.

    Args:
        value: the setting.
        names: of functions that have one, to which a `resolve` finds the way back.
        foreign: takes the names of what else was saved by name.
    """
    value = plain(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple | np.ndarray):
        return {"__tuple__": [to_json(each, names, foreign) for each in value]}
    if isinstance(value, list):
        return [to_json(each, names, foreign) for each in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): to_json(each, names, foreign) for key, each in value.items()}
    if isinstance(value, np.random.RandomState):
        kind, keys, *rest = cast("tuple[Any, ...]", value.get_state(legacy=True))
        if kind == "MT19937":
            return {"__random_state__": [kind, keys.tolist(), *rest]}
    if callable(value) and value in names:
        return names[value]
    owner = value if hasattr(value, "__qualname__") else type(value)
    foreign.append(f"{owner.__module__}:{owner.__qualname__}")
    return foreign[-1]


def from_json(value: Any) -> Any:
    """Restore a setting from the output of `to_json`; names of code in it are not imported, see `FromFile`.

    >>> from_json(to_json(dict(hidden=(16, 8), taps=["a"]), {}, []))
    {'hidden': (16, 8), 'taps': ['a']}
    """
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if isinstance(value, str) and ":" in value:
        return FromFile(value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__tuple__"}:
        return tuple(from_json(value["__tuple__"]))
    if value.keys() == {"__random_state__"}:
        kind, keys, *rest = value["__random_state__"]
        state = np.random.RandomState()
        state.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        return state
    return {key: from_json(each) for key, each in value.items()}
