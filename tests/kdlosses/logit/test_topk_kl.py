from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import kl, rkl, topk_kl


@pytest.mark.parametrize(("k", "tau"), [(1, 1.0), (3, 1.0), (5, 2.0)])
def test_formula(k: int, tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 2 * rng.normal(size=(9, 6)), 2 * rng.normal(size=(9, 6)), rng.random(9)
    each = []
    for q, p in zip(softmax(s / tau, axis=1), softmax(t / tau, axis=1)):
        order = np.argsort(-p)
        top, rest = order[:k], order[k:]
        P, Q = p[top].sum(), q[top].sum()
        cover = P * rel_entr(p[top] / P, q[top] / Q).sum()
        seek = (1 - Q) * rel_entr(q[rest] / (1 - Q), p[rest] / (1 - P)).sum()
        each.append(tau**2 * (cover + seek + rel_entr([P, 1 - P], [Q, 1 - Q]).sum()))
    value = topk_kl(*map(torch.from_numpy, (s, t)), k=k, tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_all_classes_are_kl_and_none_are_rkl() -> None:
    s, t = torch.randn(2, 6, 3), torch.randn(2, 6, 3)
    torch.testing.assert_close(topk_kl(s, t, k=0), rkl(s, t))
    for k in (6, 10):
        assert topk_kl(s, t, k=k) == kl(s, t)


def test_by_default_half_of_the_classes_are_on_top_and_at_most_ten() -> None:
    """A fixed ten would be `kl` wherever there are no more classes."""
    for classes, k in ((2, 1), (7, 3), (11, 5), (40, 10)):
        s, t = torch.randn(6, classes), torch.randn(6, classes)
        assert topk_kl(s, t) == topk_kl(s, t, k=k) != kl(s, t)


def test_a_sure_teacher_stays_finite() -> None:
    s = torch.tensor([[-300.0, 300.0, 0.0, 1.0]], requires_grad=True)
    value = topk_kl(s, torch.tensor([[300.0, -300.0, 1.0, 0.0]]), k=1)
    value.backward()
    assert 0 < value < 1e4
    assert s.grad.isfinite().all()
