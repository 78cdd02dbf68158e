"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphkd.recipes.registry import (
    EDGE_READERS,
    INPUTS,
    NETWORKS,
    OF_GRAPH_NETWORKS,
    RECIPES,
    TELLS,
    asked,
    check_method,
    inputs_of,
    nested,
    network_of,
    recipe,
)
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, RECIPES)
globals().update(_FOUND)
__all__ = ["EDGE_READERS", "INPUTS", "NETWORKS", "OF_GRAPH_NETWORKS", "RECIPES", "TELLS"]
__all__ += ["asked", "check_method", "inputs_of", "nested", "network_of", "recipe", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
