"""Train a student on the visible part of a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import Tensor

from graphkd.data import Setting
from graphkd.data.positions import Inputs
from graphkd.pipeline.arguments import (
    Student,
    checked_seed,
    checked_student,
    fitted_steps,
    last_step,
)
from graphkd.pipeline.checks import check_edge_weights
from graphkd.pipeline.measure import measures_of, metrics_of
from graphkd.pipeline.outcome import MethodSpec, Outcome
from graphkd.recipes import inputs_of
from graphkd.recipes.registry import check_task
from graphkd.sparse.rows import rows
from graphkd.sparse.shards import Shards
from graphkd.spec import plain
from graphkd.students.classifier import StudentClassifier
from graphkd.training.cache import Cache
from graphkd.training.watch import Callback

_MONITORED = 200_000  # test nodes; of more an epoch would take longer to be watched than to be trained


def train_student(
    setting: Setting,
    teacher: Outcome | Cache | None,
    method: MethodSpec,
    student: Student | None = None,
    seed: int = 0,
    *,
    progress: bool = False,
    callback: Callback | None = None,
) -> Outcome:
    """Train a student on the visible part of a setting; without a teacher, on the labels alone.

    `teacher` is what `train_teacher` returns, or the cache of that, which is all that most methods need. Those that ask
    the teacher about changed features or layers, see `graphkd.recipes.ASKS`, need the network, too.

    `progress` and `callback` are those of `StudentClassifier.fit`.

    A method may show it more than the features of the graph, see `graphkd.recipes.INPUTS`. The steps of a `Pipeline`
    before the student are fitted on the features that are seen.
    """
    seed, method = checked_seed(seed), plain(method)
    whole = setting.whole
    check_task(method, whole.task, whole.reads is None)
    if teacher is not None:
        check_edge_weights(whole, method)
    given = inputs_of(method)(setting, seed)
    model = clone(checked_student(student, whole.task))
    features, steps = fitted_steps(model, given)
    learner = fit(last_step(model), setting, teacher, method, features, seed, progress, callback)
    history = learner.history_
    metrics: dict[str, float] = {}
    if len(setting.test):
        linked = _answers(learner, features.linked, setting)
        alone = linked if features.alone is features.linked else _answers(learner, features.alone, setting)
        metrics = metrics_of(setting, linked, linked, alone if whole.reads is None else None)
    if whole.named:
        learner.classes_ = np.array(whole.class_names)[learner.classes_]
    x = None if features.linked is whole.x else rows(features.linked)
    model = Pipeline([*steps, model.steps[-1]]) if isinstance(model, Pipeline) else model
    return Outcome(model, metrics, history.oracle, history.score, sum(history.seconds), x=x)


def _answers(learner: StudentClassifier, X: Any, setting: Setting) -> Tensor:
    """Classes, where accuracy is all that is asked; else outputs, minus infinity for a class without training nodes."""
    if all(measure.scorer is None for measure in measures_of(setting)):
        return torch.from_numpy(learner.predict(X))
    found, classes = learner.outputs(X), setting.whole.num_classes
    if found.shape[1] == classes:
        return found
    full = found.new_full((len(found), classes), -torch.inf)
    return full.index_copy_(1, torch.from_numpy(learner.classes_), found)


def fit(
    learner: StudentClassifier,
    setting: Setting,
    teacher: Outcome | Cache | None,
    method: MethodSpec,
    features: Inputs,
    seed: int,
    progress: bool = False,
    callback: Callback | None = None,
) -> StudentClassifier:
    """The student, trained on what the setting shows it."""
    seen, few = setting.seen, 0 < len(setting.test) <= _MONITORED
    cache, live = (teacher.cache, teacher.live) if isinstance(teacher, Outcome) else (teacher, None)
    learner.set_params(method=method, random_state=seed)
    if setting.scoring is not None:
        learner.set_params(scoring=setting.scoring)
    return learner.fit(
        features.seen,
        seen.y,
        teacher=None if cache is None else _shown(cache, setting, features.more),
        edge_index=seen.edge_index if seen.edge_weight is None and seen.reads is None else None,
        labelled=setting.train,
        validation=(rows(features.seen, setting.val), seen.y[setting.val]),
        monitor=(rows(features.linked, setting.test), setting.whole.y[setting.test]) if few else None,
        progress=progress,
        callback=callback,
        role="control" if cache is None else "student",
        live=live if features.seen is seen.x else None,
    )


def _shown(cache: Cache, setting: Setting, more: Mapping[str, np.ndarray]) -> Cache:
    """The rows of the seen nodes, with `more` of them; shards of which all rows are seen stay on disk."""
    on_disk = isinstance(cache.logits, Shards) and len(setting.observed) == len(cache.logits)
    shown = cache if on_disk else cache.take(setting.observed.numpy())
    return replace(shown, more={**more, **shown.more}) if more else shown
