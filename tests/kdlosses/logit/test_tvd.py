from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from kdlosses import kl, tvd


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    each = tau**2 * np.abs(softmax(s / tau, axis=1) - softmax(t / tau, axis=1)).sum(1) / 2
    value = tvd(*map(torch.from_numpy, (s, t)), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1e3])
def test_range_symmetry_and_pinsker(scale: float) -> None:
    s, t = scale * torch.randn(1, 4, dtype=torch.float64), scale * torch.randn(1, 4, dtype=torch.float64)
    torch.testing.assert_close(tvd(s, t), tvd(t, s))
    assert 0 <= tvd(s, t) <= 1
    assert tvd(s, t) <= (kl(s, t) / 2).sqrt()
