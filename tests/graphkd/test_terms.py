"""Any loss on any layer: the graph's twin of a dense `distills`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import kdlosses
from graphkd import StudentClassifier
from graphkd.data import Setting
from graphkd.distillation import Outcome, study, teach

QUICK = StudentClassifier(hidden=(32, 24), dropout=0.3, epochs=20)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return teach(setting, dict(type="sage", epochs=30, hidden=48))


def studied(setting: Setting, taught: Outcome, *distills: dict[str, Any], **options: Any) -> Outcome:
    return study(setting, taught.cache, dict(type="terms", distills=list(distills), **options), QUICK)


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_one_kl_is_glnn_to_the_bit(setting: Setting, taught: Outcome, lam: float) -> None:
    x = setting.whole.x
    one = studied(setting, taught, dict(loss="kl"), lam=lam).model.predict_proba(x)
    two = study(setting, taught.cache, dict(type="glnn", lam=lam), QUICK).model.predict_proba(x)
    assert np.array_equal(one, two)


def test_weights_and_terms_add_up(setting: Setting, taught: Outcome) -> None:
    x = setting.whole.x
    half = dict(loss="kl", weight=0.5)
    one = studied(setting, taught, half, half).model.predict_proba(x)
    two = studied(setting, taught, dict(loss="kl")).model.predict_proba(x)
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_hidden_layer_is_projected_and_learnt(setting: Setting, taught: Outcome) -> None:
    """Features alone: the classifier sees labels only, the hidden layer moves towards the teacher's."""
    seen: list[float] = []

    def watched(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        assert student.shape == teacher.shape == (len(setting.seen), 48)
        value = kdlosses.LOSSES["mse"](student, teacher)
        seen.append(value.item())
        return value

    studied(setting, taught, dict(loss=watched, student="hidden"), lam=0.5)
    assert seen[-1] < 0.7 * seen[0]


def test_a_batch_shows_its_own_edges_labels_and_time(setting: Setting, taught: Outcome) -> None:
    progress = []

    def probe(
        student: torch.Tensor, teacher: torch.Tensor, labels: Any, edge_index: Any, epoch: Any, progress: Any
    ) -> Any:
        calls.append((len(student), labels, edge_index, epoch, progress))
        return student.square().mean()

    calls: list[Any] = []
    student = QUICK.set_params(batch_size=500, epochs=2)
    study(setting, taught.cache, dict(type="terms", distills=[dict(loss=probe)]), student)
    assert [epoch for *_, epoch, _ in calls] == [0] * 4 + [1] * 4
    progress = [done for *_, done in calls]
    np.testing.assert_allclose(progress, np.arange(8) / 8)
    for size, labels, edges, _, _ in calls:
        assert len(labels) == size
        assert edges.max() < size
    whole = setting.seen.edge_index.shape[1]
    assert 0 < sum(edges.shape[1] for _, _, edges, _, _ in calls[:4]) < whole
    told = sum(int((labels >= 0).sum()) for _, labels, *_ in calls[:4])
    assert told == len(setting.train)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (dict(loss="kl", wieght=2.0), TypeError, "did you mean 'weight'"),
        (dict(student="logits"), TypeError, "needs a 'loss'"),
        (dict(loss="kll"), KeyError, "did you mean"),
        (dict(loss="mse", student="hidden:5"), ValueError, "tells 2 hidden layers"),
        (dict(loss="mse", student="backbone"), ValueError, "a layer is 'logits'"),
        (dict(loss="mse", student="hidden", teacher="logits"), ValueError, "logits are not projected"),
        (dict(loss="kl", weight=float("nan")), TypeError, "finite"),
    ],
)
def test_a_wrong_entry_is_named_before_training(
    setting: Setting, taught: Outcome, entry: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        studied(setting, taught, entry)


def test_nothing_to_learn_is_an_error(setting: Setting, taught: Outcome) -> None:
    with pytest.raises(ValueError, match="distills is empty"):
        studied(setting, taught)
