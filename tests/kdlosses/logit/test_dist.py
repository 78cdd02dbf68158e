from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pearsonr

from kdlosses import dist


@pytest.mark.parametrize(("tau", "beta", "gamma"), [(1.0, 1.0, 1.0), (4.0, 2.0, 0.5)])
def test_formula(tau: float, beta: float, gamma: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(11, 4)), rng.normal(size=(11, 4))
    q, p = softmax(s / tau, axis=1), softmax(t / tau, axis=1)
    inter = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(q, p)])
    intra = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(q.T, p.T)])
    value = dist(torch.from_numpy(s), torch.from_numpy(t), tau=tau, beta=beta, gamma=gamma, eps=0.0)
    np.testing.assert_allclose(value.item(), tau**2 * (beta * inter + gamma * intra), rtol=1e-10)


def test_probabilities_of_the_same_shape_are_enough() -> None:
    p = torch.softmax(torch.randn(20, 5, dtype=torch.float64), 1)
    q = 0.3 * p + 0.7 / 5
    assert dist(q.log(), p.log()) < 1e-6


@pytest.mark.parametrize("constant", ["row", "column"])
def test_constant_rows_and_columns_are_uncorrelated(constant: str) -> None:
    s = torch.zeros(6, 3, requires_grad=True) if constant == "row" else torch.zeros(1, 3, requires_grad=True)
    value = dist(s, torch.randn(s.shape))
    value.backward()
    torch.testing.assert_close(value, torch.tensor(2.0))
    assert s.grad.isfinite().all()


def test_range() -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        s, t = (5 * torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2))
        assert 0 <= dist(s, t) <= 4
