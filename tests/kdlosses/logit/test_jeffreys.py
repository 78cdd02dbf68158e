from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import jeffreys, kl, rkl


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    p, q = softmax(t / tau, axis=1), softmax(s / tau, axis=1)
    each = tau**2 * (rel_entr(p, q) + rel_entr(q, p)).sum(1)
    value = jeffreys(*map(torch.from_numpy, (s, t)), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_is_the_sum_of_both_directions_and_symmetric() -> None:
    s, t = torch.randn(6, 4, 2), torch.randn(6, 4, 2)
    torch.testing.assert_close(jeffreys(s, t), kl(s, t) + rkl(s, t))
    torch.testing.assert_close(jeffreys(s, t), jeffreys(t, s))
