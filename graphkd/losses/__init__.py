"""Losses for graphs: on edges, or on pairs of nodes; importing this module registers them beside `kdlosses`' own."""

from __future__ import annotations

from typing import Any

from kdlosses.discover import discover
from kdlosses.moved import moved_name
from kdlosses.registry import LOSSES

_FOUND = discover(__name__, __path__, LOSSES)
globals().update(_FOUND)
__all__ = sorted(_FOUND)

_MOVED = {
    "dirichlet_energy": "graphkd.losses.dirichlet.dirichlet_energy",
    "neighbour_targets": "graphkd.sparse.edges.neighbour_targets",
}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
