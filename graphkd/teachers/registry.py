"""The registries of teachers and of ways to fine-tune them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kdlosses.discover import check_free

B = TypeVar("B", bound=Callable[..., Any])

TEACHERS: dict[str, Callable[..., Any]] = {}
"""Every builder `(in_features, classes, *, options) -> Module` by its name."""
WEIGHT_DECAY: dict[str, float] = {}
"""With which the published figures of a teacher were reached; of the others it is 5e-4."""
TUNES: dict[str, Callable[..., Any]] = {}
"""Ways to fine-tune a trained teacher for its student: `tune(network, setting, **options) -> History`."""


def teacher(*, weight_decay: float | None = None) -> Callable[[B], B]:
    """Register a builder of teachers under the name of its function.

    Args:
        weight_decay: with which its published figures were reached, where that is not 5e-4.

    Raises:
        ValueError: the name is taken.

    >>> from torch import nn
    >>> @teacher(weight_decay=1e-3)
    ... def linear(in_features, classes): ...
    >>> TEACHERS.pop("linear") is linear, WEIGHT_DECAY.pop("linear")
    (True, 0.001)
    """

    def register(builder: B) -> B:
        name = builder.__name__
        check_free("teacher", name, TEACHERS)
        TEACHERS[name] = builder
        if weight_decay is not None:
            WEIGHT_DECAY[name] = weight_decay
        return builder

    return register


def tune(function: B) -> B:
    """Register a way to fine-tune a trained teacher; raise ValueError if its name is taken."""
    check_free("way to tune", function.__name__, TUNES)
    TUNES[function.__name__] = function
    return function
