from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import mean_squared_error

from kdlosses.squared_error import squared_error


def test_formula() -> None:
    rng = np.random.default_rng(0)
    a, b, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.random(7)
    value = squared_error(*map(torch.from_numpy, (a, b, w)))
    np.testing.assert_allclose(value.item(), mean_squared_error(a, b, sample_weight=w), rtol=1e-12)


def test_fused_and_weighted_forms_agree() -> None:
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(squared_error(a, b), squared_error(a, b, torch.ones(2, 4, 5)))
