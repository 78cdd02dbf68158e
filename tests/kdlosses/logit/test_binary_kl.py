from __future__ import annotations

import numpy as np
import torch
from contract.entry import LossContract
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, rel_entr

from kdlosses import binary_kl, kl


def plain(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    p, q = teacher.sigmoid(), student.sigmoid()
    each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return each.sum(1).mean()


CONTRACT = LossContract("binary_kl", plain=plain)


@given(st.integers(1, 6), st.integers(1, 7), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 9))
def test_formula(n: int, labels: int, tau: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    s, t, w = rng.normal(size=(n, labels)) * 3, rng.normal(size=(n, labels)) * 3, rng.random(n)
    p, q = expit(t / tau), expit(s / tau)
    each = tau**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum(1)
    value = binary_kl(torch.from_numpy(s), torch.from_numpy(t), tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9, atol=1e-12)


def test_a_label_is_a_pair_of_classes_to_kl() -> None:
    s, t = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    pairs = [torch.stack([torch.zeros_like(z), z], 1) for z in (s, t)]
    each = sum(kl(pairs[0][:, :, label], pairs[1][:, :, label], tau=2.0) for label in range(3))
    torch.testing.assert_close(binary_kl(s, t, tau=2.0), each)


def test_far_logits_stay_finite() -> None:
    s = torch.tensor([[300.0, -300.0]], requires_grad=True)
    value = binary_kl(s, torch.tensor([[-300.0, 300.0]]))
    value.backward()
    assert value.item() == 600
    assert torch.isfinite(s.grad).all()
