"""An exported student answers as it did here, with neither torch nor a graph."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from graphkd import StudentClassifier


@pytest.fixture(scope="module")
def student() -> StudentClassifier:
    X, y = load_digits(return_X_y=True)
    names = np.array([f"digit {label}" for label in y])
    return StudentClassifier((32,), dropout=0.3, norm="batch", epochs=5, random_state=0).fit(X / 16, names)


def test_onnx_agrees_with_predict_proba(student: StudentClassifier, tmp_path: Path) -> None:
    X = (load_digits().data / 16).astype(np.float32)
    before = student.predict_proba(X)
    path = tmp_path / "new" / "folder" / "student.onnx"  # which is made, as by `save`
    student.to_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in (X[:1], X[:7], X):  # a new node alone, and any number of them
        (found,) = session.run(["probabilities"], {"x": rows})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, before[: len(rows)], atol=1e-5)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert np.array(classes)[found.argmax(1)].tolist() == student.predict(X).tolist()
    np.testing.assert_array_equal(student.predict_proba(X), before)  # the student is as it was


def test_a_missing_exporter_is_named(
    student: StudentClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"to_onnx needs onnxscript: pip install graphdensekd\[onnx\]"):
        student.to_onnx(tmp_path / "student.onnx")
