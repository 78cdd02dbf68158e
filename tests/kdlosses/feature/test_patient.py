from __future__ import annotations

import numpy as np
import torch
from sklearn.preprocessing import normalize

from kdlosses import cosine, patient


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.random(7)
    value = patient(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    each = ((normalize(s) - normalize(t)) ** 2).sum(1)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-12)


def test_is_twice_cosine() -> None:
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(patient(s, t), 2 * cosine(s, t))


def test_scale_of_a_position_does_not_matter() -> None:
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(patient(s * torch.rand(2, 1, 4, 4).add(0.1), 3 * t), patient(s, t))


def test_opposite_vectors_are_the_farthest() -> None:
    s = torch.randn(4, 3)
    torch.testing.assert_close(patient(s, -s), torch.tensor(4.0))
