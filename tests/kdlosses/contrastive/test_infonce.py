from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import logsumexp
from sklearn.metrics.pairwise import cosine_similarity

from kdlosses import infonce

CONTRACT = LossContract("infonce", no_fixed_point="a point is pushed away from all others as well", over_pairs=True)


def reference(s: np.ndarray, t: np.ndarray, tau: float, y: np.ndarray | None = None) -> float:
    logits = cosine_similarity(s, t) / tau
    if y is not None:
        logits = np.where((y[:, None] == y) & ~np.eye(len(y), dtype=bool), -np.inf, logits)
    return np.mean(logsumexp(logits, axis=1) - np.diag(logits))


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_formula(tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    pair = [torch.from_numpy(x) for x in (s, t)]
    forth, back = reference(s, t, tau), reference(t, s, tau)
    np.testing.assert_allclose(infonce(*pair, tau=tau).item(), forth, rtol=1e-10)
    np.testing.assert_allclose(infonce(*pair, tau=tau, symmetric=True).item(), (forth + back) / 2, rtol=1e-10)


def test_points_of_the_same_class_are_no_negatives() -> None:
    rng = np.random.default_rng(0)
    s, t, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    value = infonce(*map(torch.from_numpy, (s, t)), labels=torch.from_numpy(y))
    np.testing.assert_allclose(value.item(), reference(s, t, 0.1, y), rtol=1e-10)


def test_ignored_labels_leave_the_loss() -> None:
    s, t = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    y = torch.randint(3, (2, 8))
    y[0, :3], y[1, 5] = 255, -1
    keep = (y >= 0) & (y != 255)
    rows = [x.movedim(1, -1)[keep] for x in (s, t)]
    torch.testing.assert_close(infonce(s, t, labels=y), infonce(*rows, labels=y[keep]))


def test_one_class_has_no_negatives() -> None:
    s = torch.randn(5, 3, requires_grad=True)
    value = infonce(s, torch.randn(5, 3), labels=torch.zeros(5, dtype=torch.long))
    value.backward()
    assert value.abs() < 1e-6
    assert s.grad.abs().max() < 1e-6


def test_uniform_similarities_give_log_n_and_perfect_ones_zero() -> None:
    torch.testing.assert_close(infonce(torch.ones(7, 3), torch.ones(7, 3)), torch.tensor(math.log(7)))
    assert infonce(torch.eye(5), torch.eye(5), tau=0.01) < 1e-6


def test_labels_need_positions() -> None:
    s = torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match="in view 'pooled' the points are not"):
        infonce(s, s, labels=torch.zeros(2, 4, dtype=torch.long), view="pooled")
