"""A student keeps its scaler: fitted, evaluated, saved, exported and taught by a graph as a pipeline predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from graphkd import StudentClassifier, distill
from graphkd.data import Setting
from graphkd.students.scaling import Affine

N, CLASSES = 90, 3
y = np.arange(N) % CLASSES
draw = np.random.default_rng(0)
X = (np.eye(CLASSES, 5)[y] + 0.3 * draw.normal(size=(N, 5))) * [1, 1e3, 1e-3, 10, 1] + [0, 5e3, 0, -100, 1]
X[:, 4] = 7  # a column that never changes
LOGITS = 3 * np.eye(CLASSES, dtype=np.float32)[y]
STUDENT = StudentClassifier((8,), epochs=20, random_state=0)

SCALERS = {
    "standard": StandardScaler(),
    "only centred": StandardScaler(with_std=False),
    "only stretched": StandardScaler(with_mean=False),
    "min and max": MinMaxScaler((-1, 2)),
    "max": MaxAbsScaler(),
    "robust": RobustScaler(unit_variance=True),
    "robust, only centred": RobustScaler(with_scaling=False),
    "two": make_pipeline(MinMaxScaler(), StandardScaler()),
}


def steps(scaler: Any) -> list[Any]:
    return [step for _, step in scaler.steps] if isinstance(scaler, Pipeline) else [scaler]


@pytest.mark.parametrize("name", SCALERS)
def test_scaled_by_itself_it_is_what_a_pipeline_is_wherever_it_goes(name: str, tmp_path: Path) -> None:
    pipeline = make_pipeline(*steps(clone(SCALERS[name])), clone(STUDENT))
    expected = pipeline.fit(X, y, studentclassifier__teacher=LOGITS).predict_proba(X)
    own = clone(STUDENT).set_params(scaler=clone(SCALERS[name])).fit(X, y, teacher=LOGITS)
    unfitted = StudentClassifier.from_pipeline(clone(pipeline)).fit(X, y, teacher=LOGITS)
    for student in (own, unfitted, StudentClassifier.from_pipeline(pipeline)):
        np.testing.assert_allclose(student.predict_proba(X), expected, atol=1e-5)
        assert not np.allclose(clone(STUDENT).fit(X, y, teacher=LOGITS).predict_proba(X), expected, atol=1e-2)
        student.save(tmp_path / "student")
        again = StudentClassifier.load(tmp_path / "student")
        np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
        assert repr(again) == repr(clone(again)) == repr(student)


@pytest.mark.parametrize("name", SCALERS)
def test_what_is_exported_scales_as_scikit_learn(name: str) -> None:
    fitted = clone(SCALERS[name]).fit(X)
    found = torch.from_numpy(X).float()
    for step in steps(fitted):
        found = Affine(step)(found)
    np.testing.assert_allclose(found, fitted.transform(X), rtol=1e-4, atol=1e-3)


def test_an_exported_student_scales(tmp_path: Path) -> None:
    own = clone(STUDENT).set_params(scaler=clone(SCALERS["two"])).fit(X, y, teacher=LOGITS)
    own.to_onnx(tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": X.astype(np.float32)})
    np.testing.assert_allclose(found, own.predict_proba(X), atol=1e-3)  # 5,000 in float32 is known to 0.0005


def test_validation_is_scaled_too() -> None:
    student = clone(STUDENT).set_params(scaler=StandardScaler())
    history = student.fit(X, y, validation=(X, y), monitor=(X, y)).history_
    assert history.score == history.oracle == pytest.approx(student.score(X, y), abs=1e-6)
    assert history.score > 0.9


def test_large_numbers_are_scaled_before_they_are_rounded() -> None:
    seconds = X + 1.7e9  # of which float32 knows every 128th
    student = clone(STUDENT).set_params(scaler=StandardScaler())
    expected = make_pipeline(StandardScaler(), clone(STUDENT)).fit(seconds, y).predict_proba(seconds)
    np.testing.assert_allclose(student.fit(seconds, y).predict_proba(seconds), expected, atol=1e-6)


def test_names_of_columns_are_those_before_scaling(tmp_path: Path) -> None:
    table = pd.DataFrame(X, columns=list("abcde"))
    pipeline = make_pipeline(StandardScaler(), clone(STUDENT)).fit(table, y)
    for student in (
        StudentClassifier.from_pipeline(pipeline),
        clone(STUDENT).set_params(scaler=StandardScaler()).fit(table, y),
    ):
        student.save(tmp_path / "student")
        again = StudentClassifier.load(tmp_path / "student")
        np.testing.assert_array_equal(again.predict(table), pipeline.predict(table))
        with pytest.raises(ValueError, match="feature names should match"):
            again.predict(table[list("edcba")])


@pytest.mark.parametrize("scaler", [StandardScaler(), MaxAbsScaler(), StandardScaler(with_mean=False), MinMaxScaler()])
def test_sparse_features_are_scaled_as_dense_ones(scaler: Any) -> None:
    holes = (X * (draw.random(X.shape) < 0.4)).astype(np.float32)
    student = clone(STUDENT).set_params(scaler=scaler)
    expected = clone(student).fit(holes, y).predict_proba(holes)
    for form in (scipy.sparse.csr_matrix(holes), torch.from_numpy(holes).to_sparse_csr()):
        np.testing.assert_allclose(clone(student).fit(form, y).predict_proba(form), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (PCA(2), "the step 'pca' is a PCA"),
        (Normalizer(), "the step 'normalizer' is a Normalizer"),
        (FunctionTransformer(np.log1p), "the step 'functiontransformer' is a FunctionTransformer"),
        (MinMaxScaler(clip=True), "the step 'minmaxscaler' is a MinMaxScaler that clips"),
    ],
)
def test_another_transformer_is_refused_by_name(step: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentClassifier.from_pipeline(make_pipeline(StandardScaler(), step, clone(STUDENT)))
    with pytest.raises(ValueError, match=message.partition(" is a ")[2]):
        clone(STUDENT).set_params(scaler=step).fit(X, y)


def test_only_a_pipeline_that_ends_in_a_student_is_one() -> None:
    for other in (make_pipeline(StandardScaler(), PCA(2)), StandardScaler(), STUDENT):
        with pytest.raises(ValueError, match="expected a Pipeline whose last step is a StudentClassifier"):
            StudentClassifier.from_pipeline(other)
    for nothing in ([], [("nothing", "passthrough")]):
        assert StudentClassifier.from_pipeline(Pipeline([*nothing, ("student", STUDENT)])).scaler is None


def test_a_scaler_inside_of_a_scaled_pipeline_comes_after_it(tmp_path: Path) -> None:
    pipeline = make_pipeline(MinMaxScaler(), clone(STUDENT).set_params(scaler=StandardScaler())).fit(X, y)
    from_settings = StudentClassifier.from_pipeline(clone(pipeline)).fit(X, y)
    for student in (StudentClassifier.from_pipeline(pipeline), from_settings):
        student.save(tmp_path / "student")
        again = StudentClassifier.load(tmp_path / "student")
        np.testing.assert_allclose(again.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)


def test_taught_by_a_graph_it_keeps_its_scaler(setting: Setting, tmp_path: Path) -> None:
    graph = setting.whole
    student = StudentClassifier((8,), epochs=3, scaler=StandardScaler())
    result = distill(graph, dict(type="gcn", hidden=8, epochs=3), "glnn", student=student, setting="tran")
    result.student.save(tmp_path / "student")
    again = StudentClassifier.load(tmp_path / "student")
    np.testing.assert_array_equal(again.predict_proba(graph.x), result.student.predict_proba(graph.x))
    np.testing.assert_allclose(again.scaler_.mean_, graph.x.double().mean(0), atol=1e-6)
