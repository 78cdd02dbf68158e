"""A saved student keeps its predictions, its settings and the names of its inputs and classes."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from graphkd import LinkStudent, StudentClassifier
from graphkd.recipes import glnn
from graphkd.recipes.supervised import supervised

N, CLASSES = 60, 3
y = np.arange(N) % CLASSES
X = (np.eye(CLASSES, 6)[y] + 0.3 * np.random.default_rng(0).normal(size=(N, 6))).astype(np.float32)
TABLE = pd.DataFrame(X, columns=list("abcdef"))
LOGITS = 3 * np.eye(CLASSES, dtype=np.float32)[y]
EDGES = torch.stack([torch.arange(N), (torch.arange(N) + CLASSES) % N])


def through(student: Any, path: Path) -> Any:
    student.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return type(student).load(path)


def my_own(model: Any, lesson: Any, **options: Any) -> Any:
    return supervised(model, lesson, **options)


@pytest.mark.parametrize(
    "settings",
    [
        dict(
            hidden=(8, 4), dropout=0.1, lr=0.02, weight_decay=0.0, epochs=3, patience=7, batch_size=16, random_state=5
        ),
        dict(hidden=(), epochs=2),
        dict(hidden=[8], norm="layer", epochs=2, patience=np.inf),
        dict(method=dict(type="adagmlp", members=2, lam=np.float32(0.5)), epochs=2),
        dict(method=dict(type="terms", distills=[dict(loss=dict(type="kl", tau=2.0), weight=1)]), epochs=2),
        dict(method=dict(type="pruned", method=dict(type="glnn", lam=0.5)), epochs=2),
    ],
)
def test_every_setting_is_kept(settings: dict[str, Any], tmp_path: Path) -> None:
    student = StudentClassifier(**settings).fit(X, y, teacher=LOGITS)
    again = through(student, tmp_path / "student")
    assert again.get_params() == student.get_params()
    assert {name: type(value) for name, value in again.get_params().items() if name != "method"} == {
        name: type(value) for name, value in student.get_params().items() if name != "method"
    }
    assert type(again.network_) is type(student.network_)
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    if student.random_state is not None:
        retrained = clone(again).fit(X, y, teacher=LOGITS)
        np.testing.assert_array_equal(retrained.predict_proba(X), student.predict_proba(X))


@pytest.mark.parametrize(
    "labels",
    [
        y,
        y.astype(np.int8),
        y + 0.5 * 2,
        y > 0,
        np.array([f"class {each}" for each in y]),
        np.array([f"class {each}" for each in y], dtype=object),
        pd.Categorical([f"ÄÖ {each}" for each in y]),
    ],
)
def test_classes_and_their_type_are_kept(labels: Any, tmp_path: Path) -> None:
    student = StudentClassifier((4,), epochs=2).fit(X, labels)
    again = through(student, tmp_path / "student")
    assert again.classes_.dtype == student.classes_.dtype
    assert again.classes_.tolist() == student.classes_.tolist()
    assert again.predict(X).tolist() == student.predict(X).tolist()


def test_a_table_with_other_columns_is_refused_as_before(tmp_path: Path) -> None:
    others = [TABLE[list("fedcba")], TABLE.rename(columns={"a": "z"}), TABLE[list("abcde")]]
    both: list[Any] = [StudentClassifier((4,), epochs=2).fit(TABLE, y), LinkStudent((4, 4), epochs=2).fit(TABLE, EDGES)]
    for student in both:
        again = through(student, tmp_path / "student")
        assert again.feature_names_in_.tolist() == list("abcdef")
        for other in others:
            messages = []
            for each in (student, again):
                with pytest.raises(ValueError, match="eature") as error:
                    each.predict(other) if isinstance(each, StudentClassifier) else each.decision_function(other, EDGES)
                messages.append(str(error.value))
            assert messages[0] == messages[1]
    assert not hasattr(through(StudentClassifier((4,), epochs=2).fit(X, y), tmp_path / "plain"), "feature_names_in_")


def test_a_student_of_links_keeps_every_setting(tmp_path: Path) -> None:
    student = LinkStudent((8, 4), method=dict(type="llp"), k=3, epochs=2, batch_size=16, lr=0.02, random_state=1)
    again = through(student.fit(X, EDGES), tmp_path / "student")
    assert again.get_params() == student.get_params()
    retrained = clone(again).fit(X, EDGES)
    np.testing.assert_array_equal(retrained.decision_function(X, EDGES), student.decision_function(X, EDGES))


def test_settings_changed_after_fit_change_no_answer(tmp_path: Path) -> None:
    student = StudentClassifier((8,), norm="batch", epochs=2, scaler=StandardScaler()).fit(X, y)
    expected = student.predict_proba(X)
    student.set_params(hidden=(4, 4), norm=None, scaler=None)
    again = through(student, tmp_path / "student")
    for each in (student, again):
        np.testing.assert_array_equal(each.predict_proba(X), expected)
    assert (again.hidden, again.norm) == ((4, 4), None)  # of the next fit
    links = LinkStudent((8, 4), epochs=2).fit(X, EDGES)
    expected = links.decision_function(X, EDGES)
    np.testing.assert_array_equal(
        through(links.set_params(hidden=(5,)), tmp_path / "links").decision_function(X, EDGES), expected
    )


def test_a_registered_function_is_kept_as_its_name(tmp_path: Path) -> None:
    for method in (glnn, dict(type=glnn, lam=0.5)):
        student = StudentClassifier((4,), epochs=2, method=method, random_state=0).fit(X, y, teacher=LOGITS)
        again = through(student, tmp_path / "student")
        assert again.method == ("glnn" if method is glnn else dict(type="glnn", lam=0.5))
        retrained = clone(again).fit(X, y, teacher=LOGITS)
        np.testing.assert_array_equal(retrained.predict_proba(X), student.predict_proba(X))


@pytest.mark.parametrize("method", [my_own, dict(type=my_own)])
def test_a_function_of_ones_own_is_kept_by_name_and_says_so(method: Any, tmp_path: Path) -> None:
    student = StudentClassifier((4,), epochs=2, method=method, random_state=0).fit(X, y, teacher=LOGITS)
    with pytest.warns(UserWarning, match=r"method is saved by name alone, .*:my_own: .*set_params\(method=...\)"):
        student.save(tmp_path / "student")
    again = StudentClassifier.load(tmp_path / "student")
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    with pytest.raises(
        ValueError, match=r":my_own' is named in a file, from which no code is imported: set the method"
    ):
        clone(again).fit(X, y, teacher=LOGITS)
    again.set_params(method=method).fit(X, y, teacher=LOGITS)


def test_a_random_state_goes_on_where_it_was(tmp_path: Path) -> None:
    student = StudentClassifier((4,), epochs=2, random_state=np.random.RandomState(3)).fit(X, y)
    again = through(student, tmp_path / "student")
    expected = copy.deepcopy(student).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(again.fit(X, y).predict_proba(X), expected)


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    student = StudentClassifier((4,), dropout=0.1, epochs=2).fit(X, y)
    meta = {"in_features": 6, "hidden": [4], "dropout": 0.1, "classes": [0, 1, 2], "classes_dtype": "<i8"}
    save_file(student.network_.state_dict(), tmp_path / "old", metadata={"graphkd": json.dumps(meta)})
    again = StudentClassifier.load(tmp_path / "old")
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    assert again.get_params() == StudentClassifier((4,), dropout=0.1).get_params()
    links = LinkStudent((4, 4), dropout=0.1, epochs=2, k=3).fit(X, EDGES)
    meta = {"in_features": 6, "hidden": [4, 4], "dropout": 0.1, "k": 3}
    save_file(links.network_.state_dict(), tmp_path / "links", metadata={"graphkd_links": json.dumps(meta)})
    again = LinkStudent.load(tmp_path / "links")
    np.testing.assert_array_equal(again.decision_function(X, EDGES), links.decision_function(X, EDGES))


DAMAGED: dict[str, Any] = {
    "hidden": [[10**12], "8", [-1], None],  # the first would take 24 TB
    "in_features": [5, 10**30, -1, "6"],
    "classes": [[0, 1], 3],
    "classes_dtype": ["<x9"],
    "network": ["Linear", None],
    "settings": [dict(colour="red"), dict(random_state={"__random_state__": [1]}), []],
    "scaler": [dict(steps=[["", "PCA", {}]], pipeline=False), dict(steps=[]), {}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in DAMAGED for value in DAMAGED[key]])
def test_a_header_that_does_not_fit_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    StudentClassifier((4,), epochs=2).fit(X, y).save(tmp_path / "student")
    with safe_open(tmp_path / "student", "pt") as file:
        meta = {**json.loads(file.metadata()["graphkd"]), key: value}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    save_file(state, tmp_path / "other", metadata={"graphkd": json.dumps(meta)})
    with pytest.raises(ValueError, match=r"(?s)other holds no whole student .*save the student again"):
        StudentClassifier.load(tmp_path / "other")


@pytest.mark.parametrize(("hidden", "method"), [((), "glnn"), ((8,), "glnn"), ((8,), dict(type="adagmlp", members=2))])
def test_onnx_keeps_names_of_classes_and_columns(hidden: Any, method: Any, tmp_path: Path) -> None:
    names = np.array([f"class {each}" for each in y])
    student = StudentClassifier(hidden, epochs=2, method=method, random_state=0).fit(TABLE, names, teacher=LOGITS)
    student.to_onnx(tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    (given,), (told,) = session.get_inputs(), session.get_outputs()
    assert (given.type, told.type) == ("tensor(float)", "tensor(float)")
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["feature_names"]) == list("abcdef")
    for rows in (X[:1], X):
        (found,) = session.run(["probabilities"], {"x": rows})
        np.testing.assert_allclose(found, student.predict_proba(TABLE)[: len(rows)], atol=1e-5)
    assert np.array(json.loads(meta["classes"]))[found.argmax(1)].tolist() == student.predict(TABLE).tolist()
