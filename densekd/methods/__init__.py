"""Named methods: one file, one function that returns the `distills` entries for a student and its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import densekd.losses  # noqa: F401  registers the losses that need maps
from densekd.methods.registry import METHODS, ONLINE, Entries, Method, method, method_entries, name_of
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, METHODS)
globals().update(_FOUND)
__all__ = ["METHODS", "ONLINE", "Entries", "Method", "method", "method_entries", "name_of", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
