"""Losses on relations between positions. One loss per file; file, function and registry key have the same name."""

from kdlosses.discover import discover
from kdlosses.registry import LOSSES

_FOUND = discover(__name__, __path__, LOSSES)
globals().update(_FOUND)
__all__ = sorted(_FOUND)
