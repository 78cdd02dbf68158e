from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import entr, log_softmax, softmax

from kdlosses import crkd, kl

CONTRACT = LossContract(
    "crkd",
    options=dict(known=(0, 2, 3)),
    two_classes=dict(known=(0, 1)),
    no_fixed_point="its weights learn, too: mass moves between known and new classes",
)


@pytest.mark.parametrize(("known", "tau"), [((0, 1, 2), 4.0), ((4, 1), 1.0)])
def test_formula(known: tuple[int, ...], tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(9, 5)), rng.normal(size=(9, len(known))), rng.random(9)
    old = s[:, list(known)]
    k = softmax(s / tau, axis=1)[:, list(known)].sum(1)
    share = k / np.average(k, weights=w)
    each = -(tau**2) * share * (softmax(t / tau, axis=1) * log_softmax(old / tau, axis=1)).sum(1)
    value = crkd(*map(torch.from_numpy, (s, t)), known=known, tau=tau, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_the_first_classes_are_known_unless_said_otherwise() -> None:
    s, t = torch.randn(2, 5, 3, 3), torch.randn(2, 3, 3, 3)
    assert crkd(s, t) == crkd(s, t, known=(0, 1, 2))


def test_a_teacher_over_all_classes_is_cut_to_the_known() -> None:
    s, t = torch.randn(6, 5), torch.randn(6, 5)
    assert crkd(s, t, known=(3, 0)) == crkd(s, t[:, [3, 0]], known=(3, 0))


def test_without_new_classes_it_is_cross_entropy() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    entropy = entr((t / 2).softmax(1).numpy()).sum(1).mean()
    np.testing.assert_allclose(crkd(s, t, tau=2.0), kl(s, t, tau=2.0) + 4 * entropy, rtol=1e-5)


def test_new_classes_learn_through_the_factors_alone_and_rest_without() -> None:
    t = torch.randn(6, 3, dtype=torch.float64)
    s = torch.cat([t, torch.randn(6, 2, dtype=torch.float64)], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(crkd(s, t), s)
    assert gradient[:, 3:].abs().min() > 0
    (gradient,) = torch.autograd.grad(crkd(s, t, detach_weight=True), s)
    assert gradient.abs().max() < 1e-12


def test_another_number_of_classes_is_named() -> None:
    with pytest.raises(ValueError, match="teacher of 3 classes for 2 known"):
        crkd(torch.zeros(4, 5), torch.zeros(4, 3), known=(0, 1))
