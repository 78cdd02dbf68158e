from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import js


@pytest.mark.parametrize(("beta", "tau"), [(0.1, 1.0), (0.5, 1.0), (0.8, 3.0)])
def test_formula(beta: float, tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    p, q = softmax(t / tau, axis=1), softmax(s / tau, axis=1)
    m = beta * p + (1 - beta) * q
    each = tau**2 * (beta * rel_entr(p, m) + (1 - beta) * rel_entr(q, m)).sum(1)
    value = js(*map(torch.from_numpy, (s, t)), beta=beta, tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_half_is_symmetric_and_at_most_log_two() -> None:
    for scale in (0.1, 1.0, 10.0, 1e3):
        s, t = scale * torch.randn(50, 4, dtype=torch.float64), scale * torch.randn(50, 4, dtype=torch.float64)
        torch.testing.assert_close(js(s, t, beta=0.5), js(t, s, beta=0.5))
        assert 0 <= js(s, t, beta=0.5) <= math.log(2)


def test_swapping_the_roles_swaps_the_shares() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    torch.testing.assert_close(js(s, t, beta=0.1), js(t, s, beta=0.9))


def test_a_share_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"above 0 and below 1, got 1\.5"):
        js(torch.zeros(2, 3), torch.zeros(2, 3), beta=1.5)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_large_logits_stay_finite(beta: float) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = js(s, -s.detach(), beta=beta)
    value.backward()
    assert value.isfinite()
    assert s.grad.isfinite().all()
