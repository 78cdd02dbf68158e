"""Losses for graphs: on edges, or on pairs of nodes; importing this module registers them beside `kdlosses`' own."""

from kdlosses.discover import discover
from kdlosses.registry import LOSSES

_FOUND = discover(__name__, __path__, LOSSES)
globals().update(_FOUND)
__all__ = sorted(_FOUND)
