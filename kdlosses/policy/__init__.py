"""Policies: when and how much, around any loss. A policy is a loss itself, so it stands wherever a loss may stand."""

from kdlosses.discover import discover
from kdlosses.registry import LOSSES

_FOUND = discover(__name__, __path__, LOSSES)
globals().update(_FOUND)
__all__ = sorted(_FOUND)
