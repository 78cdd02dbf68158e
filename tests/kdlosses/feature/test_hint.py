from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from sklearn.metrics import mean_squared_error

from kdlosses import Hint, mse

CONTRACT = LossContract("hint", no_fixed_point="a regressor that is still to be learned stands between")


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 4)), rng.random(7)
    loss = Hint(3, 4).double()
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    a, b = (p.detach().numpy() for p in (loss.regressor.weight, loss.regressor.bias))
    np.testing.assert_allclose(value.item(), mean_squared_error(t, s @ a.T + b, sample_weight=w), rtol=1e-12)


def test_is_mse_behind_the_identity() -> None:
    loss = Hint(3, 3)
    torch.nn.init.eye_(loss.regressor.weight)
    torch.nn.init.zeros_(loss.regressor.bias)
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(loss(s, t), mse(s, t))
    assert loss(s, s) == 0


def test_regressor_learns_a_linear_teacher() -> None:
    loss = Hint(3, 4)
    s = torch.randn(64, 3)
    t = s @ torch.randn(3, 4) - 1  # negative features too
    optimiser = torch.optim.LBFGS(loss.parameters(), max_iter=50)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(s, t)
        value.backward()
        return value

    optimiser.step(closure)
    assert loss(s, t) < 1e-6


def test_wrong_widths_raise() -> None:
    with pytest.raises(ValueError, match="built for 3 channels of the student"):
        Hint(3, 4)(torch.randn(2, 5), torch.randn(2, 4))
