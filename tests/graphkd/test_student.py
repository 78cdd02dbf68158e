"""The student as scikit-learn, as a file, on disk-sized data, and without PyG."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from graphkd import Cache, StudentClassifier

# Checks of scikit-learn that do not pass, each with its reason. None fails; these two may be skipped by scikit-learn.
EXEMPT = {
    "check_array_api_input": "scikit-learn runs it only where SCIPY_ARRAY_API is set",
    "check_classifiers_multilabel_output_format_decision_function": "it has probabilities, and no decision function",
    "check_classifier_data_not_an_array": "scikit-learn runs it only where pandas is installed",
}


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return (X[:600] / 16).astype(np.float32), y[:600]


@pytest.fixture(scope="module")
def teacher(images: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    X, y = images
    return np.log(StudentClassifier((64,), epochs=60, random_state=1).fit(X, y).predict_proba(X) + 1e-6).astype("f4")


def quick(**options: object) -> StudentClassifier:
    return StudentClassifier(**{**dict(hidden=(32,), epochs=40, random_state=0), **options})  # type: ignore[arg-type]


def test_passes_the_estimator_checks_of_scikit_learn() -> None:
    results = check_estimator(StudentClassifier(epochs=100), on_fail=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= set(EXEMPT)
    assert len(results) > 50


def test_composes_with_scikit_learn(images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    search = GridSearchCV(make_pipeline(StandardScaler(), quick()), {"studentclassifier__hidden": [(4,), (32,)]}, cv=2)
    assert search.fit(X, y).best_params_["studentclassifier__hidden"] == (32,)
    assert clone(quick(dropout=0.3)).get_params()["dropout"] == 0.3


def test_labels_may_be_names(images: tuple[np.ndarray, np.ndarray], teacher: np.ndarray) -> None:
    X, y = images
    names = np.array(["d" + str(label) for label in y])
    student = quick().fit(X, names, teacher=teacher)
    assert student.predict(X[:3]).tolist() == ["d0", "d1", "d2"]


def test_labels_may_be_a_list_of_names_and_those_that_are_not_told_anything(
    images: tuple[np.ndarray, np.ndarray], teacher: np.ndarray
) -> None:
    X, y = images
    expected = quick().fit(X[:100], y[:100]).predict_proba(X)
    names = [f"d{label}" for label in y]
    told = np.arange(len(y)) < 100
    plain = quick().fit(X, y, labelled=told)
    for labels in (
        np.where(told, y, -1),
        np.where(told, y, np.nan),
        [name if known else "" for name, known in zip(names, told)],
        [name if known else None for name, known in zip(names, told)],
        torch.from_numpy(np.where(told, y, -100)),
    ):
        student = quick().fit(X, labels, labelled=told)
        np.testing.assert_allclose(student.predict_proba(X), plain.predict_proba(X), atol=1e-6)
        np.testing.assert_allclose(student.predict_proba(X), expected, atol=1e-3)
        assert str(student.predict(X)[0]).removeprefix("d").removesuffix(".0") == "0"
        assert quick().fit(X, labels, labelled=torch.arange(100)).classes_.tolist() == student.classes_.tolist()


@pytest.mark.parametrize("form", ["array", "tensor", "csr", "sparse tensor", "coo tensor", "csc tensor", "scipy coo"])
def test_every_form_of_features_gives_the_same_student(images: tuple[np.ndarray, np.ndarray], form: str) -> None:
    X, y = images
    made = {
        "array": lambda: X,
        "tensor": lambda: torch.from_numpy(X),
        "csr": lambda: scipy.sparse.csr_matrix(X),
        "sparse tensor": lambda: torch.from_numpy(X).to_sparse_csr(),
        "coo tensor": lambda: torch.from_numpy(X).to_sparse(),
        "csc tensor": lambda: torch.from_numpy(X).to_sparse_csc(),
        "scipy coo": lambda: scipy.sparse.coo_array(X),
    }[form]()
    expected = quick(batch_size=100).fit(X, y).predict_proba(X)
    found = quick(batch_size=100).fit(made, y).predict_proba(made)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_learns_from_disk_in_batches_exactly_what_it_learns_in_memory(
    images: tuple[np.ndarray, np.ndarray], teacher: np.ndarray, tmp_path: Path
) -> None:
    X, y = images
    np.save(tmp_path / "x.npy", X)
    cache = Cache(teacher, np.arange(len(X)), np.ones(len(X), dtype=bool), "f00d")
    cache.save(tmp_path / "cache")
    student = quick(batch_size=128, epochs=5)
    on_disk = clone(student).fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y, teacher=Cache.load(tmp_path / "cache"))
    in_memory = clone(student).fit(X, y, teacher=teacher)
    np.testing.assert_array_equal(on_disk.predict_proba(X), in_memory.predict_proba(X))


def test_unlabelled_entries_are_never_read(images: tuple[np.ndarray, np.ndarray], teacher: np.ndarray) -> None:
    X, y = images
    told = np.arange(100)
    noise = np.concatenate([y[:100], np.random.default_rng(0).permutation(y[100:])])
    method = dict(type="glnn", lam=0.5)
    one, other = (
        quick(method=method).fit(X, labels, teacher=teacher, labelled=told).predict_proba(X) for labels in (y, noise)
    )
    np.testing.assert_array_equal(one, other)


def test_monitoring_changes_nothing(images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    plain = quick().fit(X[:300], y[:300], validation=(X[300:400], y[300:400]))
    watched = quick().fit(X[:300], y[:300], validation=(X[300:400], y[300:400]), monitor=(X[400:], y[400:]))
    np.testing.assert_array_equal(plain.predict_proba(X), watched.predict_proba(X))
    assert plain.history_.oracle is None
    assert watched.history_.oracle is not None
    assert watched.history_.oracle >= watched.score(X[400:], y[400:]) - 1e-6


def test_the_best_validation_epoch_is_kept(images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    student = quick(epochs=300, patience=5).fit(X[:60], y[:60], validation=(X[300:], y[300:]))
    assert student.history_.score == pytest.approx(student.score(X[300:], y[300:]), abs=1e-6)
    assert student.history_.epochs == student.history_.best_epoch + 6
    assert student.history_.epochs < 300


def test_the_seed_decides_and_the_global_generator_is_left_alone(images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = quick(dropout=0.5).fit(X, y).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    np.testing.assert_array_equal(one, quick(dropout=0.5).fit(X, y).predict_proba(X))
    assert not np.array_equal(one, quick(dropout=0.5, random_state=1).fit(X, y).predict_proba(X))


def test_saved_and_read_it_predicts_the_same_where_pyg_is_not_installed(
    images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    X, y = images
    student = quick().fit(X, np.array([f"digit {label}" for label in y]))
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    np.save(tmp_path / "x.npy", X[:5])
    code = (
        "import sys; sys.modules['torch_geometric'] = None\n"
        "import numpy, graphkd\n"
        f"student = graphkd.StudentClassifier.load({str(tmp_path / 'student.safetensors')!r})\n"
        f"print(*student.predict(numpy.load({str(tmp_path / 'x.npy')!r})), sep=',')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split(",") == student.predict(X[:5]).tolist()


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_normalised_student_is_saved_whole(
    images: tuple[np.ndarray, np.ndarray], tmp_path: Path, norm: Literal["batch", "layer"]
) -> None:
    X, y = images
    student = quick(norm=norm).fit(X, y)
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    assert again.norm == norm
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    assert not np.array_equal(student.predict_proba(X), quick().fit(X, y).predict_proba(X))


def test_a_file_that_is_no_student_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no student"):
        StudentClassifier.load(tmp_path / "other.safetensors")


def test_bad_input_is_named(images: tuple[np.ndarray, np.ndarray], teacher: np.ndarray) -> None:
    X, y = images
    broken = teacher.copy()
    broken[7, 2] = np.nan
    with pytest.raises(ValueError, match="the teacher's logits are NaN or infinite at node 7"):
        quick().fit(X, y, teacher=broken)
    with pytest.raises(ValueError, match=r"logits \(599, 10\); expected one row for each of the 600 of X"):
        quick().fit(X, y, teacher=teacher[1:])
    with pytest.raises(ValueError, match="label 9 of row 9 is out of range; the teacher has 9 classes"):
        quick().fit(X, y, teacher=teacher[:, :9])
    with pytest.raises(ValueError, match="holds the label 12, which is not among the classes"):
        quick().fit(X, y, validation=(X[:2], [3, 12]))
    with pytest.raises(ValueError, match="no entry of y is labelled"):
        quick().fit(X, y, labelled=np.zeros(len(y), dtype=bool))
    with pytest.raises(ValueError, match=r"label -1 of row 3 .* rows without a label are left out of labelled"):
        quick().fit(X, np.where(np.arange(len(y)) == 3, -1, y), teacher=teacher)
    for labelled, message in (
        (np.ones(599, dtype=bool), r"labelled is a mask \(600,\) or a list of row numbers, got bool of shape \(599,\)"),
        (np.array([0.5]), "got float64 of shape"),
        (np.array([0, 600]), "labelled names row 600, but y has the rows 0 to 599"),
        (np.array([-1]), "labelled names row -1"),
    ):
        with pytest.raises(ValueError, match=message):
            quick().fit(X, y, labelled=labelled)
    with pytest.raises(ValueError, match=r"validation holds labels like .*'0'.*, y others like"):
        quick().fit(X, y, validation=(X[:1], ["0"]))
    with pytest.raises(ValueError, match=r"validation has 2 rows but labels \(3,\)"):
        quick().fit(X, y, validation=(X[:2], y[:3]))
    with pytest.raises(ValueError, match="contains NaN"):
        quick().fit(np.where(np.arange(len(X))[:, None] == 5, np.nan, X), y)
    for edges, message in (
        (torch.rand(2, 3), "node numbers, which are integers; got torch.float32"),
        (torch.zeros(5, 2, dtype=torch.long), r"expected edge_index \(2, E\), got \(5, 2\); pass edge_index.T"),
        (scipy.sparse.eye(600), "edge_index is a sparse matrix"),
        (torch.tensor([[-3], [1]]), "edge_index names row -3"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(method="ffg2m").fit(X, y, teacher=teacher, edge_index=edges)
    with pytest.raises(ValueError, match="this recipe learns from the edges"):
        quick(method="ffg2m").fit(X, y, teacher=teacher)
    with pytest.raises(ValueError, match="edge_index names row 600, but X has the rows 0 to 599"):
        quick(method="ffg2m").fit(X, y, teacher=teacher, edge_index=torch.tensor([[0], [600]]))
    with pytest.raises(KeyError, match="no method is called 'ffgm2'; did you mean 'ffg2m'"):
        quick(method="ffgm2").fit(X, y, teacher=teacher)
    with pytest.raises(TypeError, match="method 'glnn' has no option 'lamb'; did you mean 'lam'"):
        quick(method=dict(type="glnn", lamb=0.5)).fit(X, y, teacher=teacher)
    with pytest.raises(ValueError, match="lam is the weight of the labels, from 0 to 1, got 2"):
        quick(method=dict(type="glnn", lam=2)).fit(X, y, teacher=teacher)
    with pytest.raises(FloatingPointError, match=r"the loss is .* in epoch"):
        quick(lr=1e30).fit(X, y, teacher=teacher)
