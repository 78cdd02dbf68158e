from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

import kdlosses


def test_it_is_the_loss_towards_the_mean_of_the_predictions() -> None:
    s, t = torch.randn(7, 3, dtype=torch.float64), 3 * torch.randn(7, 6, dtype=torch.float64)
    one, two = (softmax(part, axis=1) for part in np.split(t.numpy(), 2, axis=1))
    for weights, mean in ((None, (one + two) / 2), ([3, 1], 0.75 * one + 0.25 * two)):
        expected = rel_entr(mean, softmax(s.numpy(), axis=1)).sum(1).mean()
        value = kdlosses.build(dict(type="average", weights=weights)).double()(s, t)
        assert value.item() == pytest.approx(expected, abs=1e-6)


def test_two_identical_teachers_are_one() -> None:
    s, t = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2)
    loss = kdlosses.build(dict(type="average", loss=dict(type="kl", tau=3.0)))
    torch.testing.assert_close(loss(s, torch.cat([t, t], 1)), kdlosses.kl(s, t, tau=3.0))


def test_with_cross_entropy_it_is_meal_up_to_the_entropy() -> None:
    s, t = torch.randn(6, 3, requires_grad=True), torch.randn(6, 9)
    (one,) = torch.autograd.grad(kdlosses.build("average")(s, t), s)
    (two,) = torch.autograd.grad(kdlosses.meal(s, t), s)
    torch.testing.assert_close(one, two)


def test_a_weight_of_zero_silences_a_teacher() -> None:
    s, t, noise = torch.randn(6, 3), torch.randn(6, 3), 50 * torch.randn(6, 3)
    loss = kdlosses.build(dict(type="average", weights=[1.0, 0.0]))
    torch.testing.assert_close(loss(s, torch.cat([t, noise], 1)), kdlosses.kl(s, t))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="weights must be non-negative"):
        kdlosses.build(dict(type="average", weights=[1.0, -1.0]))
    with pytest.raises(ValueError, match="2 weights for 3 teachers"):
        kdlosses.build(dict(type="average", weights=[1.0, 1.0]))(torch.zeros(2, 3), torch.zeros(2, 9))
    with pytest.raises(ValueError, match="7 channels must be a multiple of the student's 3"):
        kdlosses.build("average")(torch.zeros(2, 3), torch.zeros(2, 7))
