"""Knowledge distillation from graph networks to students that need no graph.

>>> import graphkd
>>> data = graphkd.load("digits")  # 1,797 images, each joined to those most like it
>>> student = graphkd.StudentClassifier(hidden=(64,), epochs=60)
>>> result = graphkd.distill(data, teacher=dict(type="sage", epochs=40), student=student, setting="tran")
>>> result.student.predict(data.x[:3]).tolist()  # no edges needed
[0, 1, 2]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphkd import losses as losses  # registers them; needs nothing beyond torch
from graphkd.extras import needs_extra

if TYPE_CHECKING:
    from graphkd.data import Graph, Split, cpf_split, digits, load, observe, prepare
    from graphkd.links import LinkResult, LinkStudent, distill_links
    from graphkd.pipeline.distillation import Result, distill, study, teach
    from graphkd.pipeline.ranking import rank_students
    from graphkd.students.classifier import StudentClassifier
    from graphkd.training.cache import Cache

# Loaded when first asked for, so that `import graphkd` costs next to nothing beyond torch.
_LAZY = {
    "Cache": "graphkd.training.cache",
    "Graph": "graphkd.data",
    "LinkResult": "graphkd.links",
    "LinkStudent": "graphkd.links",
    "Result": "graphkd.pipeline.distillation",
    "Split": "graphkd.data",
    "StudentClassifier": "graphkd.students.classifier",
    "cpf_split": "graphkd.data",
    "digits": "graphkd.data",
    "distill": "graphkd.pipeline.distillation",
    "distill_links": "graphkd.links",
    "load": "graphkd.data",
    "observe": "graphkd.data",
    "prepare": "graphkd.data",
    "rank_students": "graphkd.pipeline.ranking",
    "study": "graphkd.pipeline.distillation",
    "teach": "graphkd.pipeline.distillation",
}

__all__ = [
    "Cache",
    "Graph",
    "LinkResult",
    "LinkStudent",
    "Result",
    "Split",
    "StudentClassifier",
    "cpf_split",
    "digits",
    "distill",
    "distill_links",
    "load",
    "losses",
    "observe",
    "prepare",
    "rank_students",
    "study",
    "teach",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'graphkd' has no attribute {name!r}")
    with needs_extra(f"graphkd.{name}"):
        value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
