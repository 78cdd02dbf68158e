from __future__ import annotations

import numpy as np
import torch
from scipy.stats import pearsonr, zscore

from kdlosses import pkd


def test_formula_and_its_correlation_form() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    rows = [x.transpose(0, 2, 3, 1).reshape(-1, 3) for x in (s, t)]
    value = pkd(*map(torch.from_numpy, (s, t)), eps=0.0).item()
    z_s, z_t = (zscore(x, axis=0, ddof=1) for x in rows)
    np.testing.assert_allclose(value, 0.5 * np.mean((z_s - z_t) ** 2), rtol=1e-10)
    r = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(rows[0].T, rows[1].T)])
    np.testing.assert_allclose(value, 39 / 40 * r, rtol=1e-10)


def test_scale_and_shift_of_a_channel_change_nothing() -> None:
    s, t = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    scale, shift = torch.rand(2, 1, 3, 1, 1) + 0.5, torch.randn(2, 1, 3, 1, 1)
    torch.testing.assert_close(pkd(scale[0] * s + shift[0], scale[1] * t + shift[1]), pkd(s, t), rtol=1e-4, atol=1e-6)


def test_single_position_and_constant_channels_are_finite() -> None:
    for shape in [(1, 3), (6, 3)]:
        s = torch.ones(shape, requires_grad=True)
        value = pkd(s, torch.randn(shape))
        value.backward()
        assert value.isfinite()
        assert s.grad.isfinite().all()
