"""Teachers: thin builders over PyG's own layers, `(in_features, classes, **options) -> Module`."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

from graphkd.extras import needs_extra
from graphkd.teachers.registry import TEACHERS, TUNES, WEIGHT_DECAY, teacher, tune
from kdlosses.discover import discover

with needs_extra("graphkd.teachers"):
    _FOUND = discover(__name__, __path__, ChainMap(TEACHERS, TUNES))
globals().update(_FOUND)
__all__ = ["TEACHERS", "TUNES", "WEIGHT_DECAY", "teacher", "tune", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
