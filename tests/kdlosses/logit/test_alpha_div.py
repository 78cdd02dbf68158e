from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from kdlosses import alpha_div, kl, rkl


@pytest.mark.parametrize(("alpha", "tau"), [(0.5, 1.0), (0.2, 3.0), (0.9, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_formula(alpha: float, tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(9, 6)), rng.normal(size=(9, 6)), rng.random(9)
    p, q = softmax(t / tau, axis=1), softmax(s / tau, axis=1)
    each = tau**2 * ((p**alpha * q ** (1 - alpha)).sum(1) - 1) / (alpha * (alpha - 1))
    value = alpha_div(*map(torch.from_numpy, (s, t)), alpha=alpha, tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_limits_are_the_two_directions() -> None:
    s, t = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    for end, expected in ((1.0, kl(s, t)), (0.0, rkl(s, t))):
        assert alpha_div(s, t, alpha=end) == expected
        torch.testing.assert_close(alpha_div(s, t, alpha=abs(end - 1e-6)), expected, rtol=1e-5, atol=0)


def test_half_is_four_times_the_squared_hellinger_distance() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    overlap = (s.softmax(1) * t.softmax(1)).sqrt().sum(1)
    torch.testing.assert_close(alpha_div(s, t), (4 * (1 - overlap)).mean())
    torch.testing.assert_close(alpha_div(s, t), alpha_div(t, s))


@pytest.mark.parametrize("alpha", [-1.0, 0.1, 0.5, 0.999, 3.0])
def test_is_never_negative(alpha: float) -> None:
    t = torch.randn(50, 6, dtype=torch.float64)
    assert alpha_div(t + 1e-3 * torch.randn_like(t), t, alpha=alpha) >= 0
    assert alpha_div(torch.randn_like(t), t, alpha=alpha) > 0
