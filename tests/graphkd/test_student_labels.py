"""Labels, masks of them and teachers as people have them: the same student, or an error that names what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from graphkd import StudentClassifier
from graphkd.students.classifier import labels_of

N, SHOWN, CLASSES = 90, 30, 3


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, and labels of which those outside of `shown` are wrong on purpose."""
    draw = np.random.default_rng(0)
    truth = np.arange(N) % CLASSES
    X = (np.eye(CLASSES, 8)[truth] + 0.3 * draw.normal(size=(N, 8))).astype(np.float32)
    shown = draw.permutation(N) < SHOWN
    return X, np.where(shown, truth, (truth + 1) % CLASSES), shown


def quick(**options: Any) -> StudentClassifier:
    return StudentClassifier(**{**dict(hidden=(8,), epochs=5, random_state=0), **options})


def answers(student: StudentClassifier, X: np.ndarray) -> np.ndarray:
    return student.predict_proba(X)


def shuffled(values: Any) -> pd.Series:
    """A series whose index is in another order than its rows."""
    return pd.Series(values, index=np.random.default_rng(1).permutation(len(values)))


LABELS: dict[str, Callable[[np.ndarray], Any]] = {
    "column": lambda y: y[:, None],
    "list": lambda y: y.tolist(),
    "list of lists": lambda y: y[:, None].tolist(),
    "tensor": torch.from_numpy,
    "tensor column": lambda y: torch.from_numpy(y)[:, None],
    "uint8": lambda y: y.astype(np.uint8),
    "objects": lambda y: y.astype(object),
    "series in another order": shuffled,
    "frame of a column": lambda y: shuffled(y).to_frame("y"),
    "categorical": lambda y: pd.Categorical(y),
    "nullable": lambda y: pd.Series(y, dtype="Int64"),
}
MASKS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda m: m.tolist(),
    "rows": np.flatnonzero,
    "list of rows": lambda m: np.flatnonzero(m).tolist(),
    "tensor": torch.from_numpy,
    "tensor of rows": lambda m: torch.from_numpy(m).nonzero().flatten(),
    "column": lambda m: m[:, None],
    "series in another order": shuffled,
    "nullable": lambda m: pd.Series(m, dtype="boolean"),
    "objects": lambda m: m.astype(object),
    "uint8": lambda m: m.astype(np.uint8),
    "int8": lambda m: m.astype(np.int8),
    "int64": lambda m: m.astype(np.int64),
    "float": lambda m: m.astype(np.float64),
    "list of 0 and 1": lambda m: m.astype(int).tolist(),
    "tensor of uint8": lambda m: torch.from_numpy(m.astype(np.uint8)),
    "tensor of float": lambda m: torch.from_numpy(m.astype(np.float32)),
    "int series": lambda m: shuffled(m.astype(int)),
}


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("taught", [False, True])
def test_every_form_of_labels_shows_only_those_that_are_labelled(data: Any, labels: str, taught: bool) -> None:
    X, y, shown = data
    options: dict[str, Any] = {"labelled": shown}
    if taught:
        options["teacher"] = 3 * np.eye(CLASSES, dtype=np.float32)[y]
    student = quick(method=dict(type="glnn", lam=0.5))
    expected = answers(student.fit(X, y, **options), X)
    found = student.fit(X, LABELS[labels](y), **options)
    assert found.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(answers(found, X), expected)
    with pytest.raises(ValueError, match=f"labelled names row {N}, but y has the rows 0 to {N - 1}"):
        student.fit(X, LABELS[labels](y), **{**options, "labelled": [0, N]})


@pytest.mark.parametrize("mask", MASKS)
def test_every_form_of_a_mask_is_one(data: Any, mask: str) -> None:
    X, y, shown = data
    expected = answers(quick().fit(X, y, labelled=shown), X)
    np.testing.assert_array_equal(answers(quick().fit(X, y, labelled=MASKS[mask](shown)), X), expected)


def test_names_of_every_form_are_classes(data: Any) -> None:
    X, y, shown = data
    names = np.array([f"class {label}" for label in y])
    expected = answers(quick().fit(X, y, labelled=shown), X)
    for form in (names, names.tolist(), names.astype(object), pd.Categorical(names), pd.Series(names, dtype="string")):
        student = quick().fit(X, form, labelled=shown)
        assert student.classes_.tolist() == ["class 0", "class 1", "class 2"]
        np.testing.assert_array_equal(answers(student, X), expected)


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (np.zeros(N, dtype=np.uint8), None),  # row 0 again and again, or a mask of none
        (np.r_[1, np.zeros(N - 2, dtype=int)], f"looks like a mask of {N - 1} rows, but y has {N}"),
        (np.r_[2, np.zeros(N - 1, dtype=int)], f"has {N} entries, as y, and names rows twice"),
        (np.where(np.arange(N) < 9, 255, 0), f"has {N} entries, as y, and names rows twice"),
        (np.full(N, np.nan), "names rows twice|is a mask"),
        ([0.0, 5.0], "is a mask .* or a list of row numbers, got float64"),
        (["a", "b"], "is a mask .* or a list of row numbers"),
        (slice(0, 5), "is a mask .* or a list of row numbers"),
        (np.ones((N, 2), dtype=bool), "is a mask .* or a list of row numbers"),
    ],
)
def test_what_may_be_no_mask_is_refused(data: Any, labelled: Any, message: str | None) -> None:
    X, y, _ = data
    with pytest.raises(ValueError, match=message or "no entry of y is labelled"):
        quick().fit(X, y, labelled=labelled)


def test_few_rows_of_0_and_1_may_be_either() -> None:
    X, y = np.eye(2, dtype=np.float32), [0, 1]
    for either in ([0, 1], [1, 0]):
        with pytest.raises(ValueError, match="may be a mask or row numbers; pass a mask of bool"):
            quick().fit(X, y, labelled=either)
    assert quick().fit(X, y, labelled=[1, 1]).classes_.tolist() == [0, 1]


NONE: dict[str, Callable[[np.ndarray], Any]] = {
    "NaN": lambda y: np.where(np.arange(N) == 7, np.nan, y),
    "None": lambda y: [None if row == 7 else int(label) for row, label in enumerate(y)],
    "NA": lambda y: pd.Series([pd.NA if row == 7 else int(label) for row, label in enumerate(y)], dtype="Int64"),
    "None among names": lambda y: [None if row == 7 else f"c{label}" for row, label in enumerate(y)],
    "NaN among names": lambda y: [float("nan") if row == 7 else f"c{label}" for row, label in enumerate(y)],
    "an empty category": lambda y: pd.Categorical(np.where(np.arange(N) == 7, None, [f"c{label}" for label in y])),
    "masked": lambda y: np.ma.array(y, mask=np.arange(N) == 7),
    "-1": lambda y: np.where(np.arange(N) == 7, -1, y),
    "-1.0": lambda y: np.where(np.arange(N) == 7, -1.0, y),
    "-1 in a list": lambda y: np.where(np.arange(N) == 7, -1, y).tolist(),
    "-1 in objects": lambda y: np.where(np.arange(N) == 7, -1, y).astype(object),
}


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("none", NONE)
def test_no_label_is_no_class(data: Any, none: str, taught: bool) -> None:
    X, y, _ = data
    labels = NONE[none](y)
    options = {"teacher": np.eye(CLASSES + ("-1" in none), dtype=np.float32)[y]} if taught else {}
    with pytest.raises(ValueError, match=r"row 7 .*rows without a label are left out of labelled"):
        quick().fit(X, labels, **options)
    if taught:
        options = {"teacher": np.eye(CLASSES, dtype=np.float32)[y]}
    student = quick().fit(X, labels, labelled=np.arange(N) != 7, **options)
    assert [str(each).lstrip("c").removesuffix(".0") for each in student.classes_] == ["0", "1", "2"]
    known = y if "among" not in none and "category" not in none else [f"c{label}" for label in y]
    with pytest.raises(
        ValueError, match=r"row 7 of validation holds no label|label -1\S*, which is not among the classes"
    ):
        quick().fit(X, known, validation=(X, labels))


def test_minus_one_and_one_are_classes_of_their_own(data: Any) -> None:
    X, y, _ = data
    for kind in (np.int64, np.float64, object):
        student = quick().fit(X, np.where(y == 0, -1, 1).astype(kind))
        assert student.classes_.tolist() == [-1, 1]
        assert set(student.predict(X)) <= {-1, 1}


def test_labels_of_two_kinds_are_refused(data: Any) -> None:
    X, y, _ = data
    with pytest.raises(ValueError, match="labels are of one kind, got int, str"):
        quick().fit(X, [int(label) if label else "none" for label in y])


def test_labels_that_a_file_cannot_hold_are_refused_before_training(data: Any) -> None:
    X, y, _ = data
    for kind in ("datetime64[D]", "S1"):
        with pytest.raises(ValueError, match="labels are numbers or names"):
            quick().fit(X, y.astype(kind))


def test_only_a_column_is_taken_for_labels(data: Any) -> None:
    X, y, _ = data
    with pytest.raises(ValueError, match=r"1d array|with dim 3|Expected 2D array|scalar|inconsistent"):
        quick().fit(X, y.reshape(-1, 1, 1))
    with pytest.warns(UserWarning, match="A column-vector y was passed"):
        assert labels_of(y[:, None])[0].tolist() == y.tolist()


@pytest.mark.parametrize(
    "form",
    [
        lambda z: z.tolist(),
        lambda z: pd.DataFrame(z, index=np.arange(N)[::-1]),
        torch.from_numpy,
        lambda z: torch.from_numpy(z).requires_grad_(),
        lambda z: torch.from_numpy(z).bfloat16(),
        lambda z: z.astype(int),
        scipy.sparse.csr_matrix,
    ],
)
def test_every_form_of_a_teacher_teaches_the_same(data: Any, form: Callable[[np.ndarray], Any]) -> None:
    X, y, _ = data
    logits = 4 * np.eye(CLASSES, dtype=np.float32)[y]  # whole numbers, which no form rounds
    expected = answers(quick().fit(X, y, teacher=logits), X)
    np.testing.assert_allclose(answers(quick().fit(X, y, teacher=form(logits)), X), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (np.zeros(N), r"the teacher has logits \(90,\); expected \(n, C\)"),
        (np.zeros((N, 3), dtype=np.complex64), "the teacher's logits are real numbers, got complex64"),
        (np.full((N, 3), "a"), "the teacher's logits are numbers, got"),
        (StudentClassifier(), "teacher is its logits .* got a StudentClassifier"),
    ],
)
def test_what_is_no_teacher_is_named(data: Any, teacher: Any, message: str) -> None:
    X, y, _ = data
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y, teacher=teacher)


def test_validation_takes_what_labels_take(data: Any) -> None:
    X, y, _ = data
    expected = quick().fit(X, y, validation=(X, y), monitor=(X, y)).history_
    for name, form in LABELS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = quick().fit(X, y, validation=(X, form(y)), monitor=(X, form(y))).history_
        assert (found.score, found.oracle, found.best_epoch) == (
            expected.score,
            expected.oracle,
            expected.best_epoch,
        ), name
    for name in ("validation", "monitor"):
        with pytest.raises(ValueError, match=f"{name} is a pair, features .* and labels"):
            quick().fit(X, y, **{name: X})


def test_columns_of_a_teacher_by_name_are_those_of_the_classes(data: Any) -> None:
    X, y, _ = data
    names = np.array(["red", "green", "blue"])[y]
    classes = ["blue", "green", "red"]
    table = pd.DataFrame(4 * np.eye(CLASSES, dtype=np.float32)[y], columns=["red", "green", "blue"])
    with pytest.raises(ValueError, match=r"the teacher's columns are \['red', 'green', 'blue'\], the classes \['blue'"):
        quick().fit(X, names, teacher=table)
    expected = answers(quick().fit(X, names, teacher=table[classes].to_numpy()), X)
    np.testing.assert_array_equal(answers(quick().fit(X, names, teacher=table[classes]), X), expected)
    numbers = pd.DataFrame(4 * np.eye(CLASSES, dtype=np.float32)[y], columns=["0", "1", "2"])
    with pytest.raises(ValueError, match=r"the teacher's columns are \['2', '0', '1'\], the classes \[0, 1, 2\]"):
        quick().fit(X, y, teacher=numbers[["2", "0", "1"]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick().fit(X, y, teacher=numbers)
    with pytest.warns(UserWarning, match=r"columns are called \['p_red', .*: they are taken in this order"):
        quick().fit(X, names, teacher=table.add_prefix("p_"))


def test_probabilities_are_not_taken_for_logits_in_silence(data: Any) -> None:
    X, y, _ = data
    logits = 4 * np.eye(CLASSES, dtype=np.float32)[y]
    sure = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    with pytest.warns(UserWarning, match="rows sum to 1: of probabilities pass the logarithm"):
        quick().fit(X, y, teacher=sure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick().fit(X, y, teacher=np.log(sure))
        quick().fit(X, y, teacher=logits)
