"""A student that adapts to rows from elsewhere while it predicts them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler
from torch import Tensor

from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.students.adapting import Adapting


@pytest.fixture(scope="module")
def student(setting: Setting) -> StudentClassifier:
    x, y = setting.seen.x[setting.train], setting.seen.y[setting.train]
    return StudentClassifier((64,), epochs=150, random_state=0).fit(x, y)


def stream(setting: Setting, batches: int = 24) -> list[tuple[Tensor, Tensor]]:
    """Test nodes whose contrast fades while noise grows."""
    draw, found = torch.Generator().manual_seed(0), []
    for k, nodes in enumerate(setting.test.tensor_split(batches)):
        x = setting.whole.x[nodes]
        share = k / batches
        x = 0.5 + (1 - 0.8 * share) * (x - 0.5) + 0.5 * share * x.std() * torch.randn(x.shape, generator=draw)
        found.append((x, setting.whole.y[nodes]))
    return found


def test_it_predicts_a_stream_that_drifts_better_than_the_student(setting: Setting, student: StudentClassifier) -> None:
    source = setting.seen.x[setting.train]
    right = {}
    for name, predictor in {
        "as it is": student,
        "adapting": Adapting(student, source, lr=3e-3, momentum=0.5),
    }.items():
        hits = [predictor.predict(x.numpy()) == y.numpy() for x, y in stream(setting)]  # type: ignore[attr-defined]
        right[name] = np.concatenate(hits).mean()
    assert right["adapting"] > right["as it is"] + 0.03


def test_the_first_answers_are_those_of_the_student_which_stays_as_it_is(
    setting: Setting, student: StudentClassifier
) -> None:
    x, before = setting.whole.x[setting.test], copy.deepcopy(student.network_.state_dict())
    scaled = StudentClassifier((8,), epochs=5, scaler=MinMaxScaler((-1, 1))).fit(x, setting.whole.y[setting.test])
    np.testing.assert_allclose(Adapting(scaled).predict_proba(x), scaled.predict_proba(x), atol=1e-5)
    adapting = Adapting(student, lr=0.01)
    np.testing.assert_allclose(adapting.predict_proba(x), student.predict_proba(x), atol=1e-5)
    assert not np.allclose(adapting.predict_proba(x), student.predict_proba(x), atol=1e-3)
    assert all(torch.equal(each, before[name]) for name, each in student.network_.state_dict().items())


def test_prototypes_are_those_of_the_rows_that_are_given(setting: Setting, student: StudentClassifier) -> None:
    x = setting.seen.x[setting.train]
    means = Adapting(student, x).network.means
    hidden = student.network_.outputs(torch.from_numpy(student._read(x)))[-2].detach()
    kind = student.predict(x)
    assert means is not None
    for k in range(10):
        torch.testing.assert_close(means[k], hidden[torch.from_numpy(kind == k)].mean(0), atol=1e-5, rtol=1e-4)


def test_a_student_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="a student that adapts has been fitted to classes"):
        Adapting(StudentClassifier())


def test_what_is_made_of_the_rows_is_not_given_as_well(setting: Setting, student: StudentClassifier) -> None:
    with pytest.raises(ValueError, match="tap is made of X: pass one of the two"):
        Adapting(student, setting.seen.x[setting.train], tap="layers.0")
