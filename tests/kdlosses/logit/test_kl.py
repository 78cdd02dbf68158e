from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from kdlosses import kl


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 9))
def test_formula(n: int, classes: int, tau: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    s, t, w = rng.normal(size=(n, classes)) * 3, rng.normal(size=(n, classes)) * 3, rng.random(n)
    each = tau**2 * rel_entr(softmax(t / tau, axis=1), softmax(s / tau, axis=1)).sum(1)
    value = kl(torch.from_numpy(s), torch.from_numpy(t), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9, atol=1e-12)


def test_shift_of_a_position_changes_nothing() -> None:
    s, t, shift = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3), torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(kl(s + shift, t - shift), kl(s, t))


def test_is_not_symmetric() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    assert not torch.isclose(kl(s, t), kl(t, s))


def test_limit_of_high_temperature_is_half_the_mean_square_of_centred_logits() -> None:
    d = torch.randn(8, 5, dtype=torch.float64)
    t = torch.randn_like(d)
    expected = (d - d.mean(1, keepdim=True)).square().mean() / 2
    torch.testing.assert_close(kl(t + d, t, tau=1e4), expected, rtol=1e-3, atol=0)


def test_gradient_is_that_of_soft_cross_entropy() -> None:
    s, t = torch.randn(6, 4, dtype=torch.float64, requires_grad=True), torch.randn(6, 4, dtype=torch.float64)
    kl(s, t).backward()
    q, p = np.exp(log_softmax(s.detach().numpy(), axis=1)), softmax(t.numpy(), axis=1)
    np.testing.assert_allclose(s.grad.numpy(), (q - p) / 6, atol=1e-12)
