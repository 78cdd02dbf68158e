from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, rel_entr, softmax

from kdlosses import tfkd_reg

CONTRACT = LossContract(
    "tfkd_reg",
    no_fixed_point="its teacher is made by hand from the label",
    no_teacher="its target is made of the label",
)


@pytest.mark.parametrize(("confidence", "tau", "classes"), [(0.99, 20.0, 6), (0.9, 6.0, 3), (0.9, 0.1, 2)])
def test_formula(confidence: float, tau: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    s, y, w = rng.normal(size=(9, classes)), rng.integers(classes, size=9), rng.random(9)
    u = np.full((9, classes), (1 - confidence) / (classes - 1))
    u[np.arange(9), y] = confidence
    each = rel_entr(softmax(u / tau, axis=1), np.exp(log_softmax(s, axis=1))).sum(1)
    s, y, w = map(torch.from_numpy, (s, y, w))
    value = tfkd_reg(s, s, labels=y, confidence=confidence, tau=tau, weight=w)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-8)


def test_is_zero_at_the_virtual_teacher() -> None:
    y = torch.arange(4)
    u = torch.full((4, 4), 0.01 / 3, dtype=torch.float64).fill_diagonal_(0.99)
    s = (u / 20).requires_grad_()
    value = tfkd_reg(s, s, labels=y)
    (gradient,) = torch.autograd.grad(value, s)
    assert value.abs() < 1e-12
    assert gradient.abs().max() < 1e-12


def test_ignored_positions_do_not_count() -> None:
    s, y = torch.randn(4, 4), torch.tensor([0, 255, 2, -1])
    torch.testing.assert_close(tfkd_reg(s, s, labels=y), tfkd_reg(s[[0, 2]], s[[0, 2]], labels=y[[0, 2]]))


def test_one_class_cannot_be_smoothed() -> None:
    with pytest.raises(ValueError, match="two classes"):
        tfkd_reg(torch.zeros(3, 1), torch.zeros(3, 1), labels=torch.zeros(3, dtype=torch.long))
