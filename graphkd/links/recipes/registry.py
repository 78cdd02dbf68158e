"""The table of recipes for links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kdlosses.discover import check_free

R = TypeVar("R", bound=Callable[..., Any])

LINK_RECIPES: dict[str, Callable[..., Any]] = {}
"""Every recipe for links by its name."""


def link_recipe(function: R) -> R:
    """Register a recipe `(model, lesson, *, options) -> History` under its name; raise ValueError if it is taken."""
    name = function.__name__
    check_free("link recipe", name, LINK_RECIPES)
    LINK_RECIPES[name] = function
    return function
