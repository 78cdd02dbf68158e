from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr

from kdlosses import dhkd


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), rng.normal(size=(9, 6)), rng.random(9)
    sigma = expit((s - t) / tau)
    each = tau**2 * (rel_entr(0.5, sigma) + rel_entr(0.5, 1 - sigma)).sum(1)
    value = dhkd(*map(torch.from_numpy, (s, t)), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_is_even_and_sees_a_shift() -> None:
    s, t = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(dhkd(s, t), dhkd(t, s))
    assert dhkd(t + 1, t) > 0.1


def test_small_and_large_differences() -> None:
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for d in (1e-3, 1e-2):
        assert math.isclose(dhkd(zero + d, zero).item(), d**2 / 8, rel_tol=1e-4)
    for d in (100.0, -1e6):
        assert math.isclose(dhkd(zero + d, zero).item(), abs(d) - 4 * math.log(2), rel_tol=1e-9)
