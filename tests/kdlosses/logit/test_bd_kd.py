from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import entr, rel_entr, softmax

from kdlosses import bd_kd, jeffreys, kl, rkl

CONTRACT = LossContract("bd_kd", stopped="the balance of the two directions is taken as it is")


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), rng.normal(size=(9, 6)), rng.random(9)
    p, q = softmax(t / tau, axis=1), softmax(s / tau, axis=1)
    d = entr(p).sum(1) / (entr(p).sum(1) + entr(q).sum(1))
    each = tau**2 * (d * rel_entr(p, q).sum(1) + (1 - d) * rel_entr(q, p).sum(1))
    value = bd_kd(*map(torch.from_numpy, (s, t)), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_equally_sure_models_get_half_of_jeffreys() -> None:
    t = torch.randn(7, 5)
    s = t.roll(1, dims=1)
    torch.testing.assert_close(bd_kd(s, t, tau=1.0), jeffreys(s, t) / 2)


def test_a_certain_student_has_to_cover_and_one_without_a_clue_to_choose() -> None:
    clue, sure = torch.randn(7, 5, dtype=torch.float64), 40 * torch.eye(5, dtype=torch.float64)[torch.arange(7) % 5]
    torch.testing.assert_close(bd_kd(sure, clue, tau=1.0), kl(sure, clue), rtol=1e-6, atol=0)
    torch.testing.assert_close(bd_kd(clue, sure, tau=1.0), rkl(clue, sure), rtol=1e-6, atol=0)


def test_two_certain_models_are_balanced() -> None:
    s, t = 1e3 * torch.eye(3), 1e3 * torch.eye(3).roll(1, 0)
    torch.testing.assert_close(bd_kd(s, t, tau=1.0), jeffreys(s, t) / 2)
