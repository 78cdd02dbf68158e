from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import kd, kl


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 7, 5))
    expected = tau**2 * rel_entr(softmax(t / tau, axis=1), softmax(s / tau, axis=1)).sum(1).mean()
    np.testing.assert_allclose(kd(torch.from_numpy(s), torch.from_numpy(t), tau=tau).item(), expected, rtol=1e-9)


def test_default_temperature_is_four() -> None:
    s, t, w = torch.randn(6, 4), torch.randn(6, 4), torch.rand(6)
    assert kd(s, t, weight=w) == kl(s, t, tau=4.0, weight=w)


def test_shift_of_a_position_changes_nothing() -> None:
    s, t, shift = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3), torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(kd(s + shift, t - shift), kd(s, t))
