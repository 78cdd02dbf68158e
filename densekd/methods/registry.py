"""The registry of methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from densekd.term import provisional
from kdlosses.discover import check_free, find
from kdlosses.options import check_known
from kdlosses.truth import listed

Entries = list[dict[str, Any]]
Method = str | Mapping[str, Any]
M = TypeVar("M", bound=Callable[..., Entries])

METHODS: dict[str, Callable[..., Entries]] = {}
"""Every method by its name."""
ONLINE: set[str] = set()
"""Methods whose teachers learn beside the student."""


def method(*, online: bool = False) -> Callable[[M], M]:
    """Register a method under the name of its function, `(student, teacher, options) -> entries`.

    Args:
        online: whether its teachers learn beside the student.

    Raises:
        ValueError: the name is taken.

    >>> @method()
    ... def logits(student, teacher, tau=4.0):
    ...     return [dict(loss=dict(type="kl", tau=tau), student="head", teacher="head")]
    >>> METHODS.pop("logits") is logits
    True
    """

    def register(function: M) -> M:
        name = function.__name__
        check_free("method", name, METHODS)
        METHODS[name] = function
        if online:
            ONLINE.add(name)
        return function

    return register


def method_entries(spec: Method, student: nn.Module, teacher: nn.Module | Mapping[str, nn.Module]) -> Entries:
    """Return the entries of a method.

    Args:
        spec: its name, or `module:name` of a function of one's own, or a dict with either as `type` and options. Every
            method takes the option `class_weight` as well: each entry whose loss takes a weight gets it.
        student: the student.
        teacher: the teacher, or several by name: a method for several teachers takes them by name, any other method the
            first.

    Raises:
        KeyError: no method of that name; the message names the nearest.
        TypeError: an option that the method does not have.
        ValueError: the names of the teachers are not those of the method, it does not support the models, or
            `class_weight` is given and none of its losses takes a weight.
    """
    name = name_of(spec)
    function = find("method", name, METHODS)
    _, *parameters = inspect.signature(function).parameters.values()
    parts = [each.name for each in parameters if each.default is each.empty]
    options = {} if isinstance(spec, str) else {key: value for key, value in spec.items() if key != "type"}
    known = [each.name for each in parameters if each.name not in parts]
    by_class = None if "class_weight" in known else options.pop("class_weight", None)
    check_known(f"method {name!r}", options, [*known, "class_weight"])
    models = teacher if isinstance(teacher, Mapping) else {"teacher": teacher}
    if len(parts) == 1:
        models = {parts[0]: next(iter(models.values()))}
    elif {*parts} != {*models}:
        raise ValueError(f"method {name!r} needs the teachers {', '.join(parts)}; got {', '.join(models)}")
    entries = function(student, *(models[part] for part in parts), **options)
    return entries if by_class is None else _by_class(name, entries, by_class)


def _by_class(name: str, entries: Entries, class_weight: Any) -> Entries:
    """The entries, those whose losses take a weight with `class_weight`."""
    takes = ["weight" in provisional(each["loss"], listed(each.get("source"))).needs for each in entries]
    if not any(takes):
        raise ValueError(f"method {name!r}: none of its losses takes a weight, so class_weight has no effect")
    return [{**each, "class_weight": class_weight} if there else each for each, there in zip(entries, takes)]


def name_of(spec: Method) -> str:
    """Return the name of a method; an unknown one raises `KeyError` with the nearest."""
    if not isinstance(spec, str | Mapping):
        raise TypeError(f"a method is a name, or a dict with the name as 'type' and options, got {spec!r}")
    name = spec if isinstance(spec, str) else spec.get("type", "")
    find("method", name, METHODS, "methods")
    return name
