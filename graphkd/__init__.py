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
from graphkd.moved import NAMES
from kdlosses.moved import moved_name

if TYPE_CHECKING:
    from graphkd import scenes
    from graphkd.condensing import Condensed, condense, train_condensed
    from graphkd.data import Graph, Split, cpf_split, digits, load, make_setting, prepare
    from graphkd.links import LinkResult, LinkStudent, distill_links
    from graphkd.pipeline.compare import compare
    from graphkd.pipeline.distill import distill
    from graphkd.pipeline.federate import federate
    from graphkd.pipeline.outcome import Result
    from graphkd.pipeline.ranking import rank_students, search_students
    from graphkd.pipeline.train_student import train_student
    from graphkd.pipeline.train_teacher import train_teacher
    from graphkd.pipeline.tuning import tune
    from graphkd.recommendation import Recommender, distill_recommender
    from graphkd.students.classifier import StudentClassifier
    from graphkd.students.regressor import StudentRegressor
    from graphkd.training.cache import Cache
    from graphkd.unlearning import Unlearned, unlearn

# Loaded on first access, so that `import graphkd` costs next to nothing beyond torch.
_LAZY = {
    "Cache": "graphkd.training.cache",
    "Condensed": "graphkd.condensing",
    "Graph": "graphkd.data",
    "LinkResult": "graphkd.links",
    "LinkStudent": "graphkd.links",
    "Recommender": "graphkd.recommendation",
    "Result": "graphkd.pipeline.outcome",
    "Split": "graphkd.data",
    "StudentClassifier": "graphkd.students.classifier",
    "StudentRegressor": "graphkd.students.regressor",
    "Unlearned": "graphkd.unlearning",
    "compare": "graphkd.pipeline.compare",
    "condense": "graphkd.condensing",
    "cpf_split": "graphkd.data",
    "digits": "graphkd.data",
    "distill": "graphkd.pipeline.distill",
    "distill_links": "graphkd.links",
    "distill_recommender": "graphkd.recommendation",
    "federate": "graphkd.pipeline.federate",
    "load": "graphkd.data",
    "make_setting": "graphkd.data",
    "prepare": "graphkd.data",
    "rank_students": "graphkd.pipeline.ranking",
    "search_students": "graphkd.pipeline.ranking",
    "train_condensed": "graphkd.condensing",
    "train_student": "graphkd.pipeline.train_student",
    "train_teacher": "graphkd.pipeline.train_teacher",
    "tune": "graphkd.pipeline.tuning",
    "unlearn": "graphkd.unlearning",
}
_ROOMS = ("scenes",)
"""Likewise, with all that is in them."""

__all__ = [
    "Cache",
    "Condensed",
    "Graph",
    "LinkResult",
    "LinkStudent",
    "Recommender",
    "Result",
    "Split",
    "StudentClassifier",
    "StudentRegressor",
    "Unlearned",
    "compare",
    "condense",
    "cpf_split",
    "digits",
    "distill",
    "distill_links",
    "distill_recommender",
    "federate",
    "load",
    "losses",
    "make_setting",
    "prepare",
    "rank_students",
    "scenes",
    "search_students",
    "train_condensed",
    "train_student",
    "train_teacher",
    "tune",
    "unlearn",
]


def __getattr__(name: str) -> Any:
    if name not in (*_LAZY, *_ROOMS):
        return moved_name(__name__, name, NAMES)
    with needs_extra(f"graphkd.{name}"):
        if name in _ROOMS:
            return importlib.import_module(f"{__name__}.{name}")
        value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
