"""Recipes for recommendation: one method, one file, one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphkd.recommendation.recipes.registry import RECOMMENDATION_RECIPES, recommendation_recipe
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, RECOMMENDATION_RECIPES)
globals().update(_FOUND)
__all__ = ["RECOMMENDATION_RECIPES", "recommendation_recipe", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
