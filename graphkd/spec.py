"""Names in configs: `'ffg2m'`, `dict(type='ffg2m', tau=1.5)` or the function itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kdlosses import nearest


def resolve(
    what: str, spec: str | Mapping[str, Any] | Callable[..., Any], table: Mapping[str, Callable[..., Any]]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Look a name up and check its options against the function's keyword-only arguments.

    Returns:
        the function and its options.

    Raises:
        KeyError: no such name.
        TypeError: no such option.

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
    elif name in table:
        function = table[name]
    else:
        raise KeyError(f"no {what} is called {name!r}; {nearest(str(name), table)}")
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            raise TypeError(f"{what} {getattr(name, '__name__', name)!r} has no option {key!r}; {nearest(key, known)}")
    return function, options
