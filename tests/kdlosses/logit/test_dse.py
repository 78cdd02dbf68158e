from __future__ import annotations

import numpy as np
import torch

from kdlosses import dse, mse


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.random(9)
    value = dse(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(((s - t) ** 2).sum(1), weights=w), rtol=1e-12)


def test_is_mse_times_the_number_of_scores() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    torch.testing.assert_close(dse(s, t), 4 * mse(s, t))
    torch.testing.assert_close(dse(s[:, :1], t[:, :1]), mse(s[:, :1], t[:, :1]))
