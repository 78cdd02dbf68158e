"""Check before the teacher is trained that student, teacher and method fit together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone
from torch import nn

from graphkd.data import Setting
from graphkd.pipeline.arguments import Student, as_cache, checked_student, fitted_steps, last_step
from graphkd.pipeline.outcome import MethodSpec, TeacherSpecs
from graphkd.pipeline.teacher_spec import listed
from graphkd.pipeline.train_student import fit
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes.registry import RECIPES, extras_of, nested, own_features
from graphkd.training.cache import Cache
from graphkd.training.loop import rehearsal


def rehearse(
    setting: Setting,
    teacher: TeacherSpecs,
    methods: Sequence[MethodSpec],
    student: Student | None = None,
    seed: int = 0,
    as_given: Setting | None = None,
) -> None:
    """Run built-in methods up to their first step, with an untrained teacher; methods of one's own are left out.

    It takes as long as an epoch of the teacher. Features of a method's own are left out, see `graphkd.recipes.INPUTS`.

    Raises:
        ValueError: student, teacher and method do not fit together, or an option is out of range.
        TypeError: likewise.
    """
    methods = [method for method in methods if all(name in RECIPES for name in nested(method))]
    if not methods:
        return
    unready = [
        each if isinstance(each, Cache | nn.Module) else untrained(each)
        for each in (as_cache(each, setting.whole) for each in listed(teacher))
    ]
    model = clone(checked_student(student, setting.whole.task))
    features, _ = fitted_steps(model, own_features(setting, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come when it is trained
        extras = set().union(*map(extras_of, methods))
        outcome = train_teacher(setting, unready, seed, extras, as_given)
        for method in methods:
            with rehearsal():
                fit(last_step(model), setting, outcome, method, features, seed)


def untrained(teacher: Any) -> dict[str, Any]:
    """The spec of a teacher that is to be trained here, as it is before that."""
    options = dict(teacher) if isinstance(teacher, Mapping) else {"type": teacher}
    dropped = {"tune", "method", "fanout"} | ({"source"} if "inputs" not in options else set())
    return {**{key: value for key, value in options.items() if key not in dropped}, "epochs": 0}
