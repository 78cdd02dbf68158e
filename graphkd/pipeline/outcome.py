"""Results of training: `Outcome` of one model, `Result` of a distillation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from graphkd.data.setting import SettingName
from graphkd.students.classifier import StudentClassifier
from graphkd.training.cache import Cache
from graphkd.training.loop import History
from kdlosses.text_table import table

if TYPE_CHECKING:
    from graphkd.teachers.live import Live  # which needs torch-geometric

TeacherSpec = str | Mapping[str, Any] | Callable[..., nn.Module] | nn.Module | Cache | np.ndarray | Tensor
TeacherSpecs = TeacherSpec | Sequence[TeacherSpec]
MethodSpec = str | Mapping[str, Any] | Callable[..., History]


@dataclass
class Outcome:
    """One trained model and its metrics in one setting.

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
        live: a teacher that can be asked, see `graphkd.teachers.live.Live`; None where only its outputs are at hand, or
            it reads something else than the graph's features.
        applied: wall-clock seconds of a teacher's outputs for all nodes and of writing them, with `scale='sampled'`.
    """

    model: Any
    metrics: dict[str, float]
    oracle_test_best: float | None
    val: float | None
    seconds: float
    cache: Cache | None = None
    x: Tensor | None = None
    applied: float = 0.0
    live: Live | None = None


@dataclass
class Result:
    """What `distill` returns.

    Attributes:
        student: the distilled student, of the transductive run if there was one. Where the labels of the graph came as
            names it answers with these.
        metrics: by role (`teacher`, `control`, `student`), then by name: accuracies, see `Outcome.metrics`.
        oracle_test_best: by role and setting, see `Outcome`.
        latency: milliseconds of an answer of `teacher` and `student`, about all nodes and about new ones, see
            `graphkd.training.latency`.
        outcomes: by role and setting, with models and caches.

    `print(result)` shows a table of accuracies and milliseconds.
    """

    student: StudentClassifier | Any
    metrics: dict[str, dict[str, float]]
    oracle_test_best: dict[str, dict[str, float | None]]
    latency: dict[str, dict[str, float]]
    outcomes: dict[str, dict[SettingName, Outcome]]

    def __post_init__(self) -> None:
        self.outcomes = _ByRole(self.outcomes)

    @classmethod
    def of(cls, outcomes: dict[str, dict[SettingName, Outcome]], latency: dict[str, dict[str, float]]) -> Result:
        """The result of these outcomes, by role and setting, with the student of the first setting."""
        return cls(
            next(iter(outcomes["student"].values())).model,
            {
                role: {k: v for one in found.values() for k, v in one.metrics.items()}
                for role, found in outcomes.items()
            },
            {role: {name: o.oracle_test_best for name, o in found.items()} for role, found in outcomes.items()},
            latency,
            outcomes,
        )

    @property
    def cache(self) -> Cache:
        """The cache of the teacher of `student`."""
        cache = next(iter(self.outcomes["teacher"].values())).cache
        assert cache is not None
        return cache

    def __repr__(self) -> str:
        rows = {role: dict(found) for role, found in self.metrics.items()}
        for role, speed in self.latency.items():
            rows[role] |= {f"{key} ms": value for key, value in speed.items()}
        return table(rows)


class _ByRole(dict[str, Any]):
    """Outcomes by role and setting; for one version also accessible by setting and role."""

    def __missing__(self, key: str) -> Any:
        if key not in next(iter(self.values()), {}):
            raise KeyError(key)
        warnings.warn(
            f"outcomes[{key!r}][role] is now outcomes[role][{key!r}]; the old order is removed in the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        return {role: by_setting[key] for role, by_setting in self.items()}
