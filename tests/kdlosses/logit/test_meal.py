from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import entr, log_softmax, softmax

from kdlosses import kl, meal

CONTRACT = LossContract("meal", entropy="a cross-entropy with the mean of the teachers: at best its entropy")


def test_formula_with_three_teachers() -> None:
    rng = np.random.default_rng(0)
    s, ts, w = rng.normal(size=(9, 4)), [2 * rng.normal(size=(9, 4)) for _ in range(3)], rng.random(9)
    mean = np.mean([softmax(t, axis=1) for t in ts], axis=0)
    each = -(mean * log_softmax(s, axis=1)).sum(1)
    value = meal(torch.from_numpy(s), torch.from_numpy(np.concatenate(ts, axis=1)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_two_equal_teachers_are_one_and_one_is_kl_and_its_entropy() -> None:
    s, t = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(meal(s, torch.cat([t, t], dim=1)), meal(s, t))
    entropy = entr(t.softmax(1).numpy()).sum(1).mean()
    np.testing.assert_allclose(meal(s, t), kl(s, t) + entropy, rtol=1e-5)


def test_order_of_the_teachers_cannot_matter() -> None:
    s, one, other = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(meal(s, torch.cat([one, other], 1)), meal(s, torch.cat([other, one], 1)))


def test_channels_that_do_not_divide_are_named() -> None:
    with pytest.raises(ValueError, match="6 channels must be a multiple of the student's 4"):
        meal(torch.zeros(5, 4), torch.zeros(5, 6))
