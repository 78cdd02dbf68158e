"""Pseudo labels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, softmax

from kdlosses import pseudo

CONTRACT = LossContract("pseudo", no_fixed_point="it goes on pushing the probability of the likeliest class to 1")


@pytest.mark.parametrize("threshold", [0.0, 0.6])
@pytest.mark.parametrize("shape", [(40, 5), (2, 5, 6, 7)])
def test_formula(threshold: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    s, t = 2 * rng.normal(size=shape), 2 * rng.normal(size=shape)
    chosen = np.take_along_axis(-log_softmax(s, 1), t.argmax(1)[:, None], 1)[:, 0]
    sure = softmax(t, 1).max(1) >= threshold
    assert sure.any()
    value = pseudo(torch.from_numpy(s), torch.from_numpy(t), threshold=threshold)
    np.testing.assert_allclose(value.item(), chosen[sure].mean())


def test_only_the_likeliest_class_matters() -> None:
    s, t = torch.randn(2, 8, 4)
    assert pseudo(s, 5 * t + 1) == pseudo(s, t)


def test_nobody_is_sure_enough() -> None:
    s = torch.randn(3, 4, requires_grad=True)
    value = pseudo(s, torch.zeros(3, 4), threshold=0.5)
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()
