from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from torch import Tensor

from kdlosses import smooth_l1


def plain(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    d = (student - teacher).abs()
    return torch.where(d < beta, d * d / (2 * beta), d - beta / 2).mean()


CONTRACT = LossContract("smooth_l1", plain=plain)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_formula(beta: float) -> None:
    rng = np.random.default_rng(0)
    s, t, w = 3 * rng.normal(size=(7, 5)), rng.normal(size=(7, 5)), rng.random(7)
    d = np.abs(s - t)
    each = np.where(d < beta, d**2 / (2 * beta), d - beta / 2).mean(1)
    value = smooth_l1(*map(torch.from_numpy, (s, t)), beta=beta, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)
    plain = smooth_l1(*map(torch.from_numpy, (s, t)), beta=beta)
    np.testing.assert_allclose(plain.item(), each.mean(), rtol=1e-10)


def test_an_outlier_pulls_no_more_than_beta_does() -> None:
    s = torch.tensor([[0.1], [1.0], [50.0]], requires_grad=True)
    smooth_l1(s, torch.zeros(3, 1)).backward()
    torch.testing.assert_close(3 * s.grad, torch.tensor([[0.1], [1.0], [1.0]]))


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match="beta must be positive"):
        smooth_l1(torch.randn(2, 3), torch.randn(2, 3), beta=0.0)
