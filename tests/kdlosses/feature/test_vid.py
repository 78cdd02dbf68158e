from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.stats import norm

from kdlosses import VID, mse

CONTRACT = LossContract(
    "vid",
    no_fixed_point="a regressor and variances that are still to be learned stand between",
    one_channel="its regressor has as many hidden units as the teacher channels, and a single one may be shut",
)


def test_formula_is_a_gaussian_log_likelihood() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 4)), rng.random(7)
    loss = VID(3, 4, hidden_channels=6).double()
    with torch.no_grad():
        loss.raw_variance.copy_(torch.randn(4))
    x = s
    for i in (0, 2, 4):
        layer = loss.regressor[i]
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = np.maximum(x, 0) if i < 4 else x
    v = np.log1p(np.exp(loss.raw_variance.detach().numpy())) + 1e-5
    each = -norm.logpdf(t, loc=x, scale=np.sqrt(v)).mean(1) - 0.5 * np.log(2 * np.pi)
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_fixed_variance_is_scaled_mse() -> None:
    loss, s, t = VID(3, 4, variance=2.0), torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(loss(s, t), mse(loss.regressor(s), t) / 4 + 0.5 * torch.tensor(2.0).log())


def test_refined_teacher_variance_is_the_mean_squared_residual_of_the_channel() -> None:
    loss, s, t = VID(3, 4).double(), torch.randn(50, 3).double(), torch.randn(50, 4).double()
    residual = (loss.regressor(s) - t).square().mean(0).detach()
    with torch.no_grad():
        loss.raw_variance.copy_((residual - loss.eps).expm1().log())
    torch.testing.assert_close(loss.variance(), residual)
    loss(s, t).backward()
    assert loss.raw_variance.grad.abs().max() < 1e-12


def test_can_be_negative() -> None:
    loss, s = VID(3, 4, variance=0.01), torch.randn(5, 3)
    assert loss(s, loss.regressor(s)) < 0


def test_variances_are_parameters() -> None:
    loss = VID(3, 4, hidden_channels=32)
    loss(torch.randn(64, 3), torch.randn(64, 4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_variance_below_eps_raises() -> None:
    with pytest.raises(ValueError, match="0 < eps < variance"):
        VID(3, 4, variance=0.0)
