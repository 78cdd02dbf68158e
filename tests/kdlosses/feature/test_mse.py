from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import mean_squared_error

from kdlosses import mse


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.random(7)
    value = mse(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), mean_squared_error(t, s, sample_weight=w), rtol=1e-12)


def test_gradient() -> None:
    s, t = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    mse(s, t).backward()
    torch.testing.assert_close(s.grad, 2 * (s - t).detach() / s.numel())
