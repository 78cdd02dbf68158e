"""The ground truth as logits and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import kdlosses
from kdlosses.truth import check_certain, check_loss, check_names, check_smoothing, logits_of, one_hot, place_of


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
def test_the_softmax_of_the_logits_is_the_smoothed_label(smoothing: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, shape)
    expected = np.moveaxis((1 - smoothing) * np.eye(5)[labels] + smoothing / 5, -1, 1)
    logits = logits_of(one_hot(torch.from_numpy(labels), 5), smoothing)
    np.testing.assert_allclose(logits.softmax(1), expected, atol=1e-6)
    hard = (logits / 20).softmax(1) == one_hot(torch.from_numpy(labels), 5)
    assert bool(hard.all()) == (smoothing == 0)  # a temperature softens what was smoothed alone


@pytest.mark.parametrize(("smoothing", "expected"), [(0.0, (1, 0)), (0.2, (0.9, 0.1))])
def test_the_sigmoid_of_binary_logits_is_the_smoothed_target(smoothing: float, expected: tuple[float, float]) -> None:
    found = logits_of(torch.tensor([[1.0, 0.0]]), smoothing, binary=True).sigmoid()
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_labels_of_no_class_are_named_and_unknown_ones_are_not() -> None:
    assert one_hot(torch.tensor([255, -1]), 3, 255).tolist() == [[1, 0, 0], [1, 0, 0]]  # they count nothing
    with pytest.raises(ValueError, match="labels name class 3 where there are 3"):
        one_hot(torch.tensor([3]), 3)


SURE = logits_of(one_hot(torch.arange(8) % 4, 4))


@pytest.mark.parametrize("loss", ["rkl", "jeffreys", "dse", "dhkd", dict(type="ramp", loss="rkl")], ids=str)
def test_a_loss_without_a_limit_is_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match="no finite value where a class is certain"):
        check_certain(kdlosses.build(loss), torch.randn(8, 4), SURE, dict(progress=0.5))


@pytest.mark.parametrize("loss", ["kl", "kd", "js", "tvd", "dist", "std_kd", dict(type="kl", tau=50.0)], ids=str)
def test_a_loss_with_one_is_not(loss: Any) -> None:
    check_certain(kdlosses.build(loss), torch.randn(8, 4), SURE, {})


def test_what_has_no_meaning_is_named() -> None:
    with pytest.raises(ValueError, match="no teacher may be called 'truth'"):
        check_names({"truth": None, "tough": None})
    with pytest.raises(ValueError, match="'own' takes no weight"):
        check_loss(kdlosses.build(own))
    for wrong, error in ((1.0, ValueError), (-0.1, ValueError), ("0.1", TypeError), (True, TypeError)):
        with pytest.raises(error, match="'kl': smoothing must be"):
            check_smoothing("kl", wrong, truth=True)
    with pytest.raises(ValueError, match="smoothing is of the labels, but its source is not 'truth'"):
        check_smoothing("kl", 0.1, truth=False)
    assert place_of(["tough", "tolerant"]) == {}


def own(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return (student - teacher).abs().mean()
