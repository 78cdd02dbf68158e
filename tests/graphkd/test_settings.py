"""Settings of students and of trainings: numbers of any kind do, and what is wrong is named before anything trains."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import RandomizedSearchCV

from graphkd import LinkStudent, StudentClassifier
from graphkd.networks.boosted import Boosted
from graphkd.networks.mlp import MLP
from graphkd.recipes import RECIPES, adagmlp, network_of
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Schedule

y = np.arange(60) % 2
X = (np.eye(2, 5)[y] + 0.3 * np.random.default_rng(0).normal(size=(60, 5))).astype(np.float32)
EDGES = torch.stack([torch.arange(60), (torch.arange(60) + 2) % 60])

WRONG: dict[str, list[Any]] = {
    "lr": [-0.1, np.inf, np.nan, "0.1", None, [0.1]],
    "weight_decay": [-1e-3, np.nan, np.inf],
    "epochs": [-1, 1.5, None, "3", True],
    "patience": [-1, 2.5, None],
    "batch_size": [0, -4, 2.5, "8"],
    "dropout": [-0.1, 1.0, np.nan, None],
    "hidden": [(0,), (-3,), (8.5,), "8", None, ("a",), {8}],
    "norm": ["bach", 3, ["batch"]],
    "random_state": [-1, "a"],
    "scaler": ["standard", MLP(2, (), 2), StudentClassifier()],
}
NUMBERS: dict[str, list[Any]] = {
    "lr": [np.float32(0.01), np.array(0.01), torch.tensor(0.01)],
    "weight_decay": [np.float64(1e-3), 0],
    "epochs": [np.int64(2), np.array(2), np.float64(2)],
    "patience": [np.int32(3), np.inf],
    "batch_size": [np.int64(16), np.uint8(16), None],
    "dropout": [np.float32(0.25), 0],
    "hidden": [(np.int64(8),), np.array([8, 4]), [8], 8, np.int64(8), (), torch.tensor([8])],
    "norm": [np.str_("batch"), None],
    "random_state": [np.int64(3), None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_a_wrong_setting_is_named_before_data_is_looked_at(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        StudentClassifier(**{name: value}).fit(None, None)  # type: ignore[arg-type]
    if name not in ("norm", "scaler"):
        with pytest.raises(ValueError, match=name):
            LinkStudent(**{name: value}).fit(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NUMBERS for value in NUMBERS[name]])
def test_numbers_of_any_kind_train_and_are_saved(name: str, value: Any, tmp_path: Any) -> None:
    student = StudentClassifier(**{**dict(hidden=(8,), epochs=2, random_state=0), name: value})
    student.fit(X, y, validation=(X, y)).save(tmp_path / "student")
    again = StudentClassifier.load(tmp_path / "student")
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    assert student.get_params()[name] is value  # as scikit-learn wants it
    if np.ndim(value) == 0:
        assert again.get_params()[name] == value


@pytest.mark.parametrize("value", [0, -1, 2.5, "5", None])
def test_k_of_links_counts_from_1(value: Any) -> None:
    with pytest.raises(ValueError, match="k is a whole number from 1"):
        LinkStudent(k=value).fit(X, EDGES)


def test_a_student_of_links_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="hidden must have at least one layer"):
        LinkStudent(hidden=()).fit(X, EDGES)


def test_a_student_of_links_takes_numbers_of_any_kind(tmp_path: Any) -> None:
    numbers = dict(hidden=np.array([8, 4]), dropout=np.float32(0.25), k=np.int64(5), epochs=np.int64(2))
    student = LinkStudent(**numbers, lr=np.float32(0.01), batch_size=np.int64(16), random_state=np.int64(0))  # type: ignore[arg-type]
    student.fit(X, EDGES.numpy()).save(tmp_path / "student")
    again = LinkStudent.load(tmp_path / "student")
    pairs = np.array([[0, 1], [2, 3]])
    expected = student.decision_function(X, torch.from_numpy(pairs))
    np.testing.assert_array_equal(again.decision_function(X, pairs), expected)
    assert (again.k, again.dropout, again.epochs, again.hidden) == (5, 0.25, 2, (8, 4))


def test_a_search_draws_every_setting_from_arrays() -> None:
    drawn = {
        "hidden": np.array([4, 8]),
        "dropout": np.linspace(0, 0.5, 3),
        "lr": np.logspace(-3, -1, 3),
        "weight_decay": np.array([0.0, 1e-3]),
        "epochs": np.arange(2, 4),
        "patience": np.array([1, 2]),
        "batch_size": np.array([16, 32]),
        "norm": np.array([None, "batch", "layer"]),
        "method": np.array(["glnn", "mixup"]),
    }
    student = StudentClassifier(random_state=0)
    search = RandomizedSearchCV(student, drawn, n_iter=6, cv=2, random_state=0, error_score="raise")
    search.fit(X, y, teacher=4 * np.eye(2, dtype=np.float32)[y])
    assert search.best_estimator_.predict(X).shape == (60,)


def test_one_schedule_serves_teachers_and_recipes() -> None:
    schedule = Schedule(np.float32(0.25), np.float64(0), np.int64(3), np.int32(2), np.int64(8))
    assert {type(value) for value in vars(schedule).values()} == {int, float}
    with pytest.raises(ValueError, match="epochs is a whole number from 0, got -1"):
        Schedule(epochs=-1)


def test_options_of_a_recipe_become_numbers_of_python() -> None:
    def recipe(model: Any, lesson: Any, *, lam: float, deep: Any) -> Any: ...

    _, options = resolve("method", dict(type=recipe, lam=np.float32(0.5), deep=[dict(k=np.int64(3))]), {})
    assert (type(options["lam"]), type(options["deep"][0]["k"])) == (float, int)


def test_a_method_that_is_no_name_is_refused() -> None:
    for method in (3, None, ["glnn"], dict(lam=0.5)):
        with pytest.raises(KeyError, match="no method is called"):
            StudentClassifier(method=method).fit(X, y)  # type: ignore[arg-type]


def test_the_network_of_a_recipe_is_found_through_partial() -> None:
    assert network_of(functools.partial(adagmlp, members=2)) is Boosted


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (dict(type="partition", loss="nope"), KeyError),
        (dict(type="partition", by="nope"), ValueError),
        (dict(type="tfkd_self", tau=-1.0), ValueError),
        (dict(type="simmlp"), ValueError),
        (dict(type="pruned", method=dict(type="glnn", lamb=1)), TypeError),
        (dict(type="weight_align", method="gln"), KeyError),
    ],
)
def test_a_recipe_of_several_trainings_is_checked_before_the_first(method: dict[str, Any], error: Any) -> None:
    def never(*_: Any) -> Any:
        pytest.fail("it trains")

    edges, labels = torch.cat([EDGES, EDGES.flip(0)], 1), torch.full((60,), -1)
    lesson = Lesson(torch.from_numpy(X), labels, never, torch.Generator(), np.zeros((60, 2), np.float32), edges)

    def begin() -> None:
        recipe, options = resolve("method", method, RECIPES)
        recipe(MLP(5, (4,), 2), lesson, **options)

    with pytest.raises(error):
        begin()
