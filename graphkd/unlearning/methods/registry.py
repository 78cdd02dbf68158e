"""The table of ways to unlearn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kdlosses.discover import check_free

U = TypeVar("U", bound=Callable[..., Any])

UNLEARNERS: dict[str, Callable[..., Any]] = {}
"""Every way to unlearn, `(deletion, *, options) -> Module`, by its name."""


def unlearner(function: U) -> U:
    """Register a way to unlearn under the name of its function; raise ValueError if it is taken."""
    name = function.__name__
    check_free("way to unlearn", name, UNLEARNERS)
    UNLEARNERS[name] = function
    return function
