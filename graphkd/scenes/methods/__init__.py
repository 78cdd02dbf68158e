"""Methods for scenes: one method, one file, one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphkd.scenes.methods.registry import ABOUT, SCENE_METHODS, About, scene_method
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, SCENE_METHODS)
globals().update(_FOUND)
__all__ = ["ABOUT", "SCENE_METHODS", "About", "scene_method", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
