from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from scipy.special import entr, log_softmax, softmax

from kdlosses import jeffreys, sce

CONTRACT = LossContract("sce", no_fixed_point="it goes on lowering the student's entropy")


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_formula(alpha: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 6)), 3 * rng.normal(size=(9, 6)), rng.random(9)
    forward = -(softmax(t, axis=1) * log_softmax(s, axis=1)).sum(1)
    reverse = -(softmax(s, axis=1) * log_softmax(t, axis=1)).sum(1)
    value = sce(*map(torch.from_numpy, (s, t)), alpha=alpha, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average((1 - alpha) * forward + alpha * reverse, weights=w), rtol=1e-9)


def test_half_is_symmetric_and_made_of_entropies_and_jeffreys() -> None:
    s, t = torch.randn(7, 4), torch.randn(7, 4)
    torch.testing.assert_close(sce(s, t), sce(t, s))
    entropies = sum(entr(z.softmax(1).numpy()).sum(1).mean() for z in (s, t))
    np.testing.assert_allclose(sce(s, t), entropies / 2 + jeffreys(s, t) / 2, rtol=1e-5)


def test_without_the_reverse_term_it_is_cross_entropy() -> None:
    s, t = torch.randn(7, 4), torch.randn(7, 4)
    torch.testing.assert_close(sce(s, t, alpha=0.0), F.cross_entropy(s, t.softmax(1)))


def test_agreement_costs_the_entropy_and_goes_on_sharpening() -> None:
    t = torch.randn(7, 4, dtype=torch.float64)
    s = t.clone().requires_grad_()
    value = sce(s, t)
    np.testing.assert_allclose(value.item(), entr(t.softmax(1).numpy()).sum(1).mean(), rtol=1e-12)
    value.backward()
    sharper = s.detach() - s.grad
    assert entr(sharper.softmax(1).numpy()).sum() < entr(t.softmax(1).numpy()).sum()
