from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, softmax

from kdlosses import DINO

CONTRACT = LossContract(
    "dino",
    no_fixed_point="the teacher is the colder one",
    no_two_classes="its centre is learned of the teacher's logits",
)


def test_formula_over_a_run_of_batches() -> None:
    rng = np.random.default_rng(0)
    loss, centre = DINO(channels=5, student_tau=0.3, teacher_tau=0.2, momentum=0.7).double(), np.zeros(5)
    for _ in range(4):
        s, t = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
        expected = -(softmax((t - centre) / 0.2, axis=1) * log_softmax(s / 0.3, axis=1)).sum(1).mean()
        assert loss(*map(torch.from_numpy, (s, t))).item() == pytest.approx(expected)
        centre = 0.7 * centre + 0.3 * t.mean(0)
    np.testing.assert_allclose(loss.centre.numpy(), centre)


def test_what_all_have_in_common_says_nothing() -> None:
    """A prototype that the teacher prefers for everything is none to follow, once the centre knows."""
    loss, common = DINO(channels=4, momentum=0.0).double(), torch.tensor([9.0, 0.0, 0.0, 0.0]).double()
    teacher, student = torch.randn(8, 4).double(), torch.randn(8, 4).double()
    loss(student, teacher + common)
    once = loss.eval()(student, teacher + common)
    plain = DINO(channels=4, momentum=0.0).double()
    plain(student, teacher)
    torch.testing.assert_close(once, plain.eval()(student, teacher))


def test_the_centre_moves_in_training_alone_and_by_what_counts() -> None:
    loss, teacher = DINO(channels=3, momentum=0.5), torch.randn(4, 3, 2, 2)
    loss.eval()(teacher, teacher)
    assert (loss.centre == 0).all()
    weight = torch.tensor([1, 0, 0, 1]).view(4, 1, 1).expand(4, 2, 2)
    loss.train()(teacher, teacher, weight=weight)
    torch.testing.assert_close(loss.centre, teacher[[0, 3]].mean((0, 2, 3)) / 2)
    before = loss.centre.clone()
    loss(teacher, teacher, weight=0 * weight)
    assert torch.equal(loss.centre, before)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="temperature teacher_tau must be positive, got 0"):
        DINO(channels=3, teacher_tau=0)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        DINO(channels=3, momentum=1)
