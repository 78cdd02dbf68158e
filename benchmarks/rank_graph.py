"""One run of `rank.py` on the embedded digits graph."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from rank import spec

from graphkd.data import cpf_split, load, make_setting
from graphkd.data.setting import Setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes.terms import terms
from graphkd.sparse.rows import rows
from graphkd.students.classifier import StudentClassifier
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from graphkd.training.term import Term

STUDENT: dict[str, Any] = dict(hidden=[256], dropout=0.5, lr=0.01, weight_decay=5e-4, epochs=150, patience=150)
TEACHER = dict(type="sage", epochs=200)
BUDGET: dict[str, Any] = {"data": "digits", "setting": "tran", "teacher": TEACHER, "student": STUDENT, "lam": 0.5}


@functools.lru_cache(maxsize=1)
def taught(seed: int) -> tuple[Setting, Outcome]:
    """The graph as this seed splits it, and the teacher."""
    data = load("digits")
    view = make_setting(data, cpf_split(data.y, seed), "tran", seed)
    return view, train_teacher(view, TEACHER, seed)


def run(key: str | None, seed: int) -> dict[str, Any]:
    """Train one student with a loss, or without."""
    view, teacher = taught(seed)
    assert teacher.cache is not None
    student = StudentClassifier(**STUDENT)
    weight = None
    if key is None:
        outcome = train_student(view, None, "supervised", student, seed)
    else:
        loss, on_features = spec(key, STUDENT["hidden"][-1], teacher.cache.hidden[-1].shape[1], view.seen.num_classes)
        entry: dict[str, Any] = dict(loss=loss, student="hidden" if on_features else "logits")

        def method(model: MLP, lesson: Lesson) -> History:
            nonlocal weight
            weight = balance(model, lesson, entry)
            return terms(model, lesson, distills=[entry | {"weight": weight}], lam=BUDGET["lam"])

        outcome = train_student(view, teacher.cache, method, student, seed)
    return {
        "metric": "test accuracy",
        "test": 100 * outcome.metrics["tran"],
        "val": 100 * (outcome.val or 0.0),
        "teacher": 100 * teacher.metrics["tran"],
        "weight": weight,
        "seconds": outcome.seconds,
    }


def balance(model: MLP, lesson: Lesson, entry: dict[str, Any]) -> float:
    """The weight with which the loss pulls as hard as the labels at the start, where the student is tapped."""
    with torch.random.fork_rng(devices=[]):
        term = Term.parse(entry, model, lesson)
        outputs, told = model.outputs(rows(lesson.x)), lesson.labels >= 0
        hard = F.cross_entropy(outputs[-1][told], lesson.labels[told])
        soft = term(outputs, slice(None), lesson.context(slice(None), term.loss.needs))
        tap = outputs[term.layer]
        pulls = [torch.autograd.grad(value, tap, retain_graph=True)[0].norm().item() for value in (hard, soft)]
    if not pulls[1] > 0:
        raise ValueError(f"{term.loss.name} has no gradient at the start: it cannot be weighed against the labels")
    return pulls[0] / pulls[1]
