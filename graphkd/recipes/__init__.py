"""Recipes: one method, one file, one function, to be read beside its paper.

A recipe is `recipe(model, lesson, **options) -> History`: it prepares its targets once, writes down the loss of a step,
and hands that to the shared loop.
"""

from __future__ import annotations

from typing import Any

from graphkd.recipes.registry import (
    ASKS,
    EDGE_READERS,
    EXTRAS,
    HANDS_ON,
    INPUTS,
    NETWORKS,
    OF_GRAPH_NETWORKS,
    ONE_PROCESS,
    RECIPES,
    asks,
    check_method,
    check_run,
    extras_of,
    inputs_of,
    nested,
    network_of,
    recipe,
)
from kdlosses.discover import discover
from kdlosses.moved import moved_name

_FOUND = discover(__name__, __path__, RECIPES)
globals().update(_FOUND)
__all__ = [
    "ASKS",
    "EDGE_READERS",
    "EXTRAS",
    "HANDS_ON",
    "INPUTS",
    "NETWORKS",
    "OF_GRAPH_NETWORKS",
    "ONE_PROCESS",
    "RECIPES",
]
__all__ += [
    "asks",
    "extras_of",
    "check_method",
    "check_run",
    "inputs_of",
    "nested",
    "network_of",
    "recipe",
    *sorted(_FOUND),
]

_MOVED = {"TELLS": "graphkd.recipes.EXTRAS", "asked": "graphkd.recipes.extras_of"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
