from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax

from kdlosses import kl, std_kd

CONTRACT = LossContract("std_kd", no_two_classes="one logit of two, standardised, is always the same: it is refused")


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), rng.normal(size=(9, 6)), rng.random(9)
    q, p = (softmax(z / z.std(axis=1, ddof=1, keepdims=True), axis=1) for z in (s, t))
    value = std_kd(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(rel_entr(p, q).sum(1), weights=w), rtol=1e-9)


def test_scale_and_shift_of_either_side_change_nothing() -> None:
    s, t = torch.randn(2, 5, 3, 3, dtype=torch.float64), torch.randn(2, 5, 3, 3, dtype=torch.float64)
    a, b = 0.1 + torch.rand(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(std_kd(a * s + b, t), std_kd(s, t))
    torch.testing.assert_close(std_kd(s, a * t + b), std_kd(s, t))
    assert std_kd(a * t + b, t) < 1e-12


def test_constant_logits_stay_as_they_are() -> None:
    s, t = torch.zeros(4, 5, requires_grad=True), torch.randn(4, 5)
    value = std_kd(s, t)
    value.backward()
    torch.testing.assert_close(value, kl(torch.zeros(4, 5), t / t.std(1, keepdim=True)))
    assert 0 < s.grad.abs().max() < 1


def test_one_class_has_no_deviation() -> None:
    with pytest.raises(ValueError, match="two classes"):
        std_kd(torch.zeros(3, 1), torch.zeros(3, 1))
