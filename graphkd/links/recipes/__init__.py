"""Recipes for links: one method, one file, one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphkd.links.recipes.registry import LINK_RECIPES, link_recipe
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, LINK_RECIPES)
globals().update(_FOUND)
__all__ = ["LINK_RECIPES", "link_recipe", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
