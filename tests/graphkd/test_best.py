"""`best`: better than its teacher, than glnn and than the labels alone where words say little and edges much."""

from __future__ import annotations

from typing import Any

import pytest
from contract.entry import RecipeContract

from graphkd import Graph, StudentClassifier, train_student, train_teacher
from graphkd.data import Setting, cpf_split, make_setting
from graphkd.pipeline.outcome import Outcome

CONTRACT = RecipeContract(
    "best", options=dict(epochs=40), undrawn=dict(mask=0.0, dropout=0.0, epochs=20), short=dict(epochs=2)
)

BEST: dict[str, Any] = dict(type="best", epochs=60, mask=0.5, dropout=0.5, decay=5e-4)


@pytest.fixture(scope="module")
def setting(papers: Graph) -> Setting:
    return make_setting(papers, cpf_split(papers.y, 0), "tran", 0)


@pytest.fixture(scope="module")
def teacher(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=60), 0)


def accuracy(setting: Setting, teacher: Outcome | None, method: Any) -> float:
    student = StudentClassifier((128,), 0.3, epochs=100)
    return train_student(setting, None if teacher is None else teacher.cache, method, student, 0).metrics["tran"]


def test_it_is_better_than_all_that_it_is_made_of(setting: Setting, teacher: Outcome) -> None:
    best = accuracy(setting, teacher, BEST)
    assert best > accuracy(setting, None, "supervised") + 0.3
    assert best > accuracy(setting, teacher, "glnn") + 0.02
    assert best > teacher.metrics["tran"] + 0.02
    assert best > accuracy(setting, teacher, {**BEST, "hops": 0}) + 0.1
    assert best > accuracy(setting, teacher, {**BEST, "consistency": 0.0}) + 0.02


def test_it_needs_no_label(setting: Setting, teacher: Outcome) -> None:
    assert accuracy(setting, teacher, {**BEST, "lam": 0.0}) > accuracy(setting, teacher, "glnn") + 0.02


@pytest.mark.parametrize(
    "options", [dict(restart=0.0), dict(mask=1.0), dict(hide=-0.1), dict(hops=-1), dict(epochs=0), dict(sharp=0.0)]
)
def test_options_out_of_range_are_refused(setting: Setting, teacher: Outcome, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="best: it takes 0 < restart <= 1"):
        accuracy(setting, teacher, dict(type="best", **options))
