"""The table of recipes for links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from graphkd.links.network import LinkMLP
from kdlosses.discover import check_free

R = TypeVar("R", bound=Callable[..., Any])

LINK_RECIPES: dict[str, Callable[..., Any]] = {}
"""Every recipe for links by its name."""
LINK_NETWORKS: dict[str, Callable[..., Any]] = {}
"""The network that a recipe for links trains, where that is not a `LinkMLP`; built with the same arguments."""


@overload
def link_recipe(function: R, /) -> R: ...
@overload
def link_recipe(*, network: Callable[..., Any]) -> Callable[[R], R]: ...
def link_recipe(function: Any = None, /, *, network: Callable[..., Any] | None = None) -> Any:
    """Register a recipe `(model, lesson, *, options) -> History` under its name; raise ValueError if it is taken.

    Args:
        function: the recipe, where the decorator stands without brackets.
        network: what it trains, where that is not a `LinkMLP`; built with the same arguments.
    """

    def register(function: R) -> R:
        name = function.__name__
        check_free("link recipe", name, LINK_RECIPES)
        LINK_RECIPES[name] = function
        if network is not None:
            LINK_NETWORKS[name] = network
        return function

    return register if function is None else register(function)


def link_network_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a recipe trains; that of one's own is a `LinkMLP`."""
    name = getattr(function, "__name__", "")
    return LINK_NETWORKS.get(name, LinkMLP) if LINK_RECIPES.get(name) is function else LinkMLP
