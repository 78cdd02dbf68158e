from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import kl, skew_kl


@pytest.mark.parametrize(("lam", "tau"), [(0.1, 1.0), (0.5, 3.0)])
def test_formula(lam: float, tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    p, q = softmax(t / tau, axis=1), softmax(s / tau, axis=1)
    each = tau**2 * rel_entr(p, lam * p + (1 - lam) * q).sum(1)
    value = skew_kl(*map(torch.from_numpy, (s, t)), lam=lam, tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_no_skew_is_the_plain_divergence() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    torch.testing.assert_close(skew_kl(s, t, lam=0.0), kl(s, t))


@pytest.mark.parametrize("lam", [0.01, 0.1, 0.5])
def test_is_bounded(lam: float) -> None:
    for scale in (1.0, 10.0, 1e3):
        s, t = scale * torch.randn(50, 4, dtype=torch.float64), scale * torch.randn(50, 4, dtype=torch.float64)
        assert 0 <= skew_kl(s, t, lam=lam) <= -math.log(lam)


@pytest.mark.parametrize("lam", [-0.1, 1.0])
def test_a_share_out_of_range_is_named(lam: float) -> None:
    with pytest.raises(ValueError, match=f"lam must be .*got {lam}"):
        skew_kl(torch.zeros(2, 3), torch.zeros(2, 3), lam=lam)


def test_large_logits_stay_finite() -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = skew_kl(s, -s.detach())
    value.backward()
    assert value.isfinite()
    assert s.grad.isfinite().all()
