from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from scipy.special import entr, log_softmax, softmax

from kdlosses import ofa

CONTRACT = LossContract("ofa", entropy="a cross-entropy with the teacher's probabilities: at best their entropy")


@pytest.mark.parametrize(("gamma", "tau"), [(1.0, 1.0), (1.5, 1.0), (0.8, 2.0)])
def test_formula(gamma: float, tau: float) -> None:
    rng = np.random.default_rng(0)
    s, t, y, w = rng.normal(size=(9, 6)), rng.normal(size=(9, 6)), rng.integers(6, size=9), rng.random(9)
    hot = np.eye(6)[y]
    target = (softmax(t / tau, axis=1) + hot) ** gamma - hot
    each = -(target * log_softmax(s / tau, axis=1)).sum(1)
    s, t, y, w = map(torch.from_numpy, (s, t, y, w))
    value = ofa(s, t, labels=y, gamma=gamma, tau=tau, weight=w)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_without_enhancement_it_is_cross_entropy_whatever_the_label() -> None:
    s, t, y = torch.randn(7, 4), torch.randn(7, 4), torch.randint(4, (7,))
    torch.testing.assert_close(ofa(s, t, labels=y), F.cross_entropy(s, t.softmax(1)))
    np.testing.assert_allclose(ofa(t, t, labels=y), entr(t.softmax(1).numpy()).sum(1).mean(), rtol=1e-5)


def test_enhancement_goes_on_pushing_the_label() -> None:
    t, y = torch.randn(7, 4), torch.randint(4, (7,))
    s = t.clone().requires_grad_()
    ofa(s, t, labels=y, gamma=1.5).backward()
    assert (s.grad.gather(1, y[:, None]) < 0).all()


def test_positions_without_a_label_have_the_target_of_the_teacher() -> None:
    s, t, y = torch.randn(4, 4), torch.randn(4, 4), torch.tensor([0, 255, 2, -1])
    told, untold = (ofa(s[k], t[k], labels=y[k].clamp(0, 3), gamma=g) for k, g in (([0, 2], 1.5), ([1, 3], 1.0)))
    torch.testing.assert_close(ofa(s, t, labels=y, gamma=1.5), (told + untold) / 2)
