"""Ways to unlearn: one method, one file, one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphkd.unlearning.methods.registry import UNLEARNERS, unlearner
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, UNLEARNERS)
globals().update(_FOUND)
__all__ = ["UNLEARNERS", "unlearner", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
