"""Inside of scikit-learn's searches and pipelines: rows are those of the fold, or an error says what to pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphkd import Cache, StudentClassifier

N, CLASSES = 60, 3
truth = np.arange(N) % CLASSES
X = (np.eye(CLASSES, 6)[truth] + 0.3 * np.random.default_rng(0).normal(size=(N, 6))).astype(np.float32)
SHOWN = np.arange(N) < 15
y = np.where(SHOWN, truth, (truth + 1) % CLASSES)  # what is not shown is wrong on purpose
LOGITS = 3 * np.eye(CLASSES, dtype=np.float32)[truth]
EDGES = torch.stack([torch.arange(N), (torch.arange(N) + CLASSES) % N])
FOLDS = KFold(3, shuffle=True, random_state=0)
STUDENT = StudentClassifier((8,), epochs=20, random_state=0)


def by_grid(student: Any, prefix: str, params: dict[str, Any]) -> np.ndarray:
    search = GridSearchCV(student, {prefix + "lr": [0.01]}, cv=FOLDS, error_score="raise")
    search.fit(X, y, **{prefix + name: value for name, value in params.items()})
    return np.array([search.cv_results_[f"split{k}_test_score"][0] for k in range(3)])


def by_score(student: Any, prefix: str, params: dict[str, Any]) -> np.ndarray:
    params = {prefix + name: value for name, value in params.items()}
    return cross_val_score(student, X, y, params=params, cv=FOLDS, error_score="raise")


def by_predict(student: Any, prefix: str, params: dict[str, Any]) -> np.ndarray:
    params = {prefix + name: value for name, value in params.items()}
    found = cross_val_predict(student, X, y, params=params, cv=FOLDS)
    return np.array([(found[test] == y[test]).mean() for _, test in FOLDS.split(X)])


SEARCHES = [by_grid, by_score, by_predict]
LEARNERS = [(STUDENT, ""), (make_pipeline(StandardScaler(), STUDENT), "studentclassifier__")]


@pytest.mark.parametrize(("student", "prefix"), LEARNERS)
@pytest.mark.parametrize("search", SEARCHES)
def test_a_mask_and_logits_are_cut_with_the_rows(search: Callable[..., np.ndarray], student: Any, prefix: str) -> None:
    expected = []
    for train, test in FOLDS.split(X):
        options = {"labelled": SHOWN[train], "teacher": LOGITS[train]}
        fitted = clone(student).fit(X[train], y[train], **{prefix + name: value for name, value in options.items()})
        expected.append(fitted.score(X[test], y[test]))
    for mask in (SHOWN, torch.from_numpy(SHOWN), SHOWN.tolist(), SHOWN.astype(int)):
        found = search(student, prefix, {"labelled": mask, "teacher": LOGITS})
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("student", "prefix"), LEARNERS)
@pytest.mark.parametrize("search", SEARCHES)
def test_row_numbers_and_edges_of_all_rows_are_refused(
    search: Callable[..., np.ndarray], student: Any, prefix: str
) -> None:
    for rows in (np.arange(15), list(range(15)), torch.arange(15), np.array([3, 59]), np.arange(N)):
        with pytest.raises(ValueError, match=r"labelled names rows of all of X.*pass a mask"):
            search(student, prefix, {"labelled": rows})
    with pytest.raises(ValueError, match=r"edge_index names rows of all of X.*validation=\(X, y\)"):
        search(student, prefix, {"teacher": LOGITS, "edge_index": EDGES})
    cache = Cache(LOGITS, np.arange(N), np.ones(N, dtype=bool), "")
    with pytest.raises(ValueError, match="a search of scikit-learn cuts logits to its folds, not a Cache"):
        search(student, prefix, {"teacher": cache})


def test_outside_of_folds_row_numbers_and_edges_are_as_ever() -> None:
    class Own(StudentClassifier):
        """One that makes them from its fold itself."""

        def fit(self, X: Any, y: Any, **options: Any) -> Any:
            edges = torch.stack([torch.arange(len(X)), torch.arange(len(X)).roll(1)])
            teacher = np.eye(CLASSES, dtype=np.float32)[y]
            return super().fit(X, y, labelled=np.arange(15), edge_index=edges, teacher=teacher)

    assert len(cross_val_score(Own((8,), epochs=2), X, y, cv=FOLDS, error_score="raise")) == 3


def test_a_pipeline_that_leaves_validation_unscaled_says_so() -> None:
    pipeline = make_pipeline(StandardScaler(), clone(STUDENT))
    with pytest.warns(UserWarning, match="validation reaches the student as it is.*from_pipeline"):
        pipeline.fit(X, truth, studentclassifier__validation=(X, truth))
