from __future__ import annotations

import numpy as np
import torch

from kdlosses import mse, norm_feature


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.random(7)
    value = norm_feature(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    expected = (w[:, None] * (s - t) ** 2).sum() / (w[:, None] * t**2).sum()
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)


def test_scale_of_a_layer_does_not_matter() -> None:
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm_feature(50 * s, 50 * t), norm_feature(s, t))


def test_student_of_zeros_scores_one() -> None:
    t = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm_feature(torch.zeros_like(t), t), torch.tensor(1.0))


def test_teacher_of_zeros_leaves_the_mean_squared_error() -> None:
    s = torch.randn(4, 3)
    torch.testing.assert_close(norm_feature(s, torch.zeros(4, 3)), mse(s, torch.zeros(4, 3)))
