"""`refined_teacher`: better than its teacher, glnn and the labels alone where words say little and edges much."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract.entry import RecipeContract
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

from graphkd import Graph, StudentClassifier, train_student, train_teacher
from graphkd.data import Setting, cpf_split, hubs, make_setting
from graphkd.pipeline.outcome import Outcome
from graphkd.recipes.refined_teacher import fitted_exponent

CONTRACT = RecipeContract(
    "refined_teacher", options=dict(epochs=40), undrawn=dict(mask=0.0, dropout=0.0, epochs=20), short=dict(epochs=2)
)

BEST: dict[str, Any] = dict(type="refined_teacher", epochs=60, mask=0.5, dropout=0.5, decay=5e-4)
FLAT = dict(type="refined_teacher", decay=0.01, fit=False)


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


def test_by_default_it_is_no_worse_than_glnn_where_a_graph_has_hubs() -> None:
    """Few words that say little: by much weight decay the refined teacher is barely above chance."""
    cited = hubs(nodes=800, words=400, homophily=0.65, signal=0.15)
    setting = make_setting(cited, cpf_split(cited.y, 0), "tran", 0)
    teacher = train_teacher(setting, dict(type="sage", hidden=64, epochs=100), 0)
    student = StudentClassifier((32,), 0.5, epochs=100)
    methods = ("refined_teacher", dict(type="refined_teacher", decay=0.01), FLAT, "glnn")
    best, decayed, flat, glnn = (train_student(setting, teacher.cache, method, student, 0) for method in methods)
    assert best.metrics["tran"] > glnn.metrics["tran"] - 0.01
    assert best.metrics["tran"] > flat.metrics["tran"] + 0.1
    sure = [outcome.model.predict_proba(cited.x).max(1).mean() for outcome in (decayed, flat)]
    assert sure[0] > sure[1] + 0.05


def test_the_exponent_is_that_of_the_least_divergence() -> None:
    draw = torch.Generator().manual_seed(0)
    z, teacher = torch.randn(40, 5, generator=draw), 2 * torch.randn(40, 5, generator=draw)
    p = teacher.double().softmax(1).numpy()
    for sure in (teacher / 2, teacher / 8 + z / 3, z / 9):

        def divergence(a: float, z: Tensor = sure) -> float:
            return -float((p * log_softmax(a * z.double().numpy(), 1)).sum())

        wanted = minimize_scalar(divergence, bounds=(1, 100), method="bounded", options=dict(xatol=1e-8)).x
        assert fitted_exponent(sure, teacher) == pytest.approx(wanted, abs=1e-4)
    assert fitted_exponent(teacher.log_softmax(1) / 7, teacher) == pytest.approx(7, rel=1e-5)
    assert fitted_exponent(2 * teacher, teacher) == pytest.approx(1)  # nothing is made flatter


@pytest.mark.parametrize(
    "options", [dict(restart=0.0), dict(mask=1.0), dict(hide=-0.1), dict(hops=-1), dict(epochs=0), dict(sharp=0.0)]
)
def test_options_out_of_range_are_refused(setting: Setting, teacher: Outcome, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"refined_teacher: it takes 0 < restart <= 1|(hide|hops) must be at least 0"):
        accuracy(setting, teacher, dict(type="refined_teacher", **options))
