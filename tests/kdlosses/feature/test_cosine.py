from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import cosine as cosine_distance

from kdlosses import cosine


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.random(7)
    value = cosine(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average([cosine_distance(a, b) for a, b in zip(s, t)], weights=w))


def test_lengths_do_not_matter() -> None:
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(cosine(s * torch.rand(2, 1, 4, 4).add(0.1), 3 * t), cosine(s, t))


def test_zero_vector_has_a_finite_gradient() -> None:
    s = torch.zeros(2, 3, requires_grad=True)
    cosine(s, torch.randn(2, 3)).backward()
    assert s.grad.isfinite().all()
