"""What training leaves: `Outcome` of one model, `Result` of a distillation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from graphkd.data.setting import SettingName
from graphkd.students.classifier import StudentClassifier
from graphkd.training.cache import Cache
from graphkd.training.loop import History

TeacherSpec = str | Mapping[str, Any] | Callable[..., nn.Module] | nn.Module | Cache | np.ndarray | Tensor
TeacherSpecs = TeacherSpec | Sequence[TeacherSpec]
MethodSpec = str | Mapping[str, Any] | Callable[..., History]


@dataclass
class Outcome:
    """One trained model and what it reached in one setting.

    Attributes:
        model: a network for a teacher (None if only its cache is known; an `Ensemble` for several), a
            `StudentClassifier` for a student, or a `Pipeline` that ends in one.
        metrics: accuracies. In `tran`: `tran`, on the test nodes. In `ind`: `observed` and `ind`, on the test nodes
            that were seen and that were not; `prod`, their mean weighted 0.8 to 0.2; `cold`, on those that were not,
            without an edge.
        oracle_test_best: the best accuracy of any epoch on the test nodes that were seen: what selecting on them would
            have reported as `tran` or `observed`; None for several teachers, which have no epoch in common.
        val: validation accuracy, by which the epoch was chosen.
        seconds: wall-clock time of the training.
        cache: what a teacher leaves.
        x: features of all nodes as the network sees them, where they are not those of the graph: see
            `graphkd.recipes.INPUTS` for students and steps of a `Pipeline`, `inputs` in `train_teacher` for teachers.
    """

    model: Any
    metrics: dict[str, float]
    oracle_test_best: float | None
    val: float | None
    seconds: float
    cache: Cache | None = None
    x: Tensor | None = None


@dataclass
class Result:
    """What `distill` returns.

    Attributes:
        student: the distilled student, of the transductive run if there was one. Where the labels of the graph came as
            names it answers with these.
        metrics: accuracies of `teacher`, `control` and `student`, see `Outcome.metrics`.
        oracle_test_best: likewise, see there.
        latency: milliseconds of an answer of `teacher` and `student`, about all nodes and about new ones, see
            `graphkd.training.latency`.
        outcomes: by setting and role, with models and caches.
    """

    student: StudentClassifier | Any
    metrics: dict[str, dict[str, float]]
    oracle_test_best: dict[str, dict[str, float | None]]
    latency: dict[str, dict[str, float]]
    outcomes: dict[SettingName, dict[str, Outcome]]

    @property
    def cache(self) -> Cache:
        """What the teacher of `student` left."""
        cache = next(iter(self.outcomes.values()))["teacher"].cache
        assert cache is not None
        return cache
