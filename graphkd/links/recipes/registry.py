"""The table of recipes for links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R", bound=Callable[..., Any])

LINK_RECIPES: dict[str, Callable[..., Any]] = {}
"""Every recipe for links by its name."""


def link_recipe(function: R) -> R:
    """Register a recipe `(model, lesson, *, options) -> History` under its name; raise ValueError if it is taken."""
    name = function.__name__
    if name in LINK_RECIPES:
        raise ValueError(f"link recipe {name!r} is registered already, by {LINK_RECIPES[name].__module__}")
    LINK_RECIPES[name] = function
    return function
