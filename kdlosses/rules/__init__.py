"""Rules for weights, samples and networks that recipes on graphs and policies on pixels call.

Plain functions and modules, one rule per file; those that need edges, or that graphs alone use, are in `graphkd.rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlosses.discover import definitions

_FOUND = definitions(__name__, __path__)
globals().update(_FOUND)
__all__ = sorted(_FOUND)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
