"""The table of recipes for recommendation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kdlosses.discover import check_free

R = TypeVar("R", bound=Callable[..., Any])

RECOMMENDATION_RECIPES: dict[str, Callable[..., Any]] = {}
"""Every recipe for recommendation by its name."""


def recommendation_recipe(function: R) -> R:
    """Register a recipe `(model, lesson, *, options) -> History` under its name; raise ValueError if it is taken."""
    name = function.__name__
    check_free("recommendation recipe", name, RECOMMENDATION_RECIPES)
    RECOMMENDATION_RECIPES[name] = function
    return function
