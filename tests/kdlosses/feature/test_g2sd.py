from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract

from kdlosses import g2sd

CONTRACT = LossContract("g2sd", no_fixed_point="the teacher is normalised, the student predicts that")


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_formula(beta: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(7, 5)), rng.normal(size=(7, 5)), rng.random(7)
    d = np.abs(s - (t - t.mean(1, keepdims=True)) / np.sqrt(t.var(1, keepdims=True) + 1e-6))
    each = np.where(d < beta, d**2 / (2 * beta), d - beta / 2).mean(1)
    value = g2sd(*map(torch.from_numpy, (s, t)), beta=beta, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_scale_and_shift_of_the_teacher_do_not_matter() -> None:
    s, t = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(g2sd(s, 7 * t - 3), g2sd(s, t), rtol=1e-4, atol=0)


def test_is_zero_at_a_normalised_teacher() -> None:
    t = torch.nn.functional.layer_norm(torch.randn(6, 5), (5,))
    assert g2sd(t, t) < 1e-9


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match="beta must be positive"):
        g2sd(torch.randn(2, 3), torch.randn(2, 3), beta=0.0)
