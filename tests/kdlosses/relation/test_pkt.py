from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr
from sklearn.metrics.pairwise import cosine_similarity

from kdlosses import pkt

CONTRACT = LossContract("pkt", over_pairs=True)


@pytest.mark.parametrize("self_pairs", [True, False])
def test_formula(self_pairs: bool) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(9, 3)), rng.normal(size=(9, 5))
    p_s, p_t = ((1 + cosine_similarity(x)) / 2 * (1 - np.eye(9) * (not self_pairs)) for x in (s, t))
    p_s, p_t = p_s / p_s.sum(1, keepdims=True), p_t / p_t.sum(1, keepdims=True)
    value = pkt(*map(torch.from_numpy, (s, t)), self_pairs=self_pairs).item()
    np.testing.assert_allclose(value, rel_entr(p_t, p_s).sum(1).mean(), rtol=1e-9)
    np.testing.assert_allclose(value / 9, rel_entr(p_t, p_s).mean(), rtol=1e-9)  # factor 1 / n of the authors' code


def test_weights_without_self_pairs_are_copies() -> None:
    s, t = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    copies = torch.tensor([1, 2, 0, 3, 1, 1, 2, 1])
    again = [x.repeat_interleave(copies, 0) for x in (s, t)]
    torch.testing.assert_close(pkt(s, t, self_pairs=False, weight=copies), pkt(*again, self_pairs=False))


def test_scale_of_a_point_changes_nothing_but_translation_does() -> None:
    s, t = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    scale = torch.rand(2, 12, 1) + 0.1
    torch.testing.assert_close(pkt(scale[0] * s, scale[1] * t), pkt(s, t))
    assert not torch.isclose(pkt(s + 1, t), pkt(s, t))
    assert pkt(s, t) > 0


@pytest.mark.parametrize("self_pairs", [True, False])
def test_opposite_zero_and_single_points_are_finite(self_pairs: bool) -> None:
    for s in (torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.zeros(4, 2), torch.ones(1, 2)):
        s.requires_grad_()
        value = pkt(s, torch.randn_like(s), self_pairs=self_pairs)
        value.backward()
        assert value.isfinite()
        assert s.grad.isfinite().all()
