from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.spatial.distance import pdist, squareform

from kdlosses import rkd

CONTRACT = LossContract("rkd", over_pairs=True)


def huber(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = np.abs(a - b)
    return np.where(d < 1, d**2 / 2, d - 0.5)


def distance(s: np.ndarray, t: np.ndarray) -> float:
    return huber(*(pdist(x) / pdist(x)[pdist(x) > 0].mean() for x in (s, t))).mean()


def angle(s: np.ndarray, t: np.ndarray) -> float:
    n, each = len(s), []
    for i, j, k in np.ndindex(n, n, n):
        if len({i, j, k}) == 3:
            pair = [(x[i] - x[j]) @ (x[k] - x[j]) for x in (s, t)]
            pair = [p / np.linalg.norm(x[i] - x[j]) / np.linalg.norm(x[k] - x[j]) for p, x in zip(pair, (s, t))]
            each.append(huber(*pair))
    return np.mean(each)


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(9, 3)), rng.exponential(size=(9, 4)) ** 3
    pair = [torch.from_numpy(x) for x in (s, t)]
    np.testing.assert_allclose(rkd(*pair, angle=0.0).item(), 25 * distance(s, t), rtol=1e-10)
    np.testing.assert_allclose(rkd(*pair, distance=0.0).item(), 50 * angle(s, t), rtol=1e-10)
    np.testing.assert_allclose(rkd(*pair).item(), 25 * distance(s, t) + 50 * angle(s, t), rtol=1e-10)


def test_factor_against_the_mean_over_all_pairs_and_triplets() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(7, 3)), rng.normal(size=(7, 4))
    d = [squareform(pdist(x)) for x in (s, t)]
    all_pairs = huber(*(x / x[x > 0].mean() for x in d)).mean()
    pair = [torch.from_numpy(x) for x in (s, t)]
    np.testing.assert_allclose(rkd(*pair, distance=1.0, angle=0.0).item() * 6 / 7, all_pairs, rtol=1e-10)
    units = [x[:, None] - x[None] for x in (s, t)]
    units = [u / np.where(x == 0, 1, x)[..., None] for u, x in zip(units, d)]
    all_triplets = huber(*(np.einsum("ijc,kjc->jik", u, u) for u in units)).mean()
    np.testing.assert_allclose(rkd(*pair, distance=0.0, angle=1.0).item() * 6 * 5 / 49, all_triplets, rtol=1e-10)


@pytest.mark.parametrize("options", [dict(angle=0.0), dict(distance=0.0)])
def test_rotation_translation_and_scale_change_nothing(options: dict[str, float]) -> None:
    s, t = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    value = rkd(s, t, **options)
    torch.testing.assert_close(rkd(3 * s @ rotation + torch.randn(5), t, **options), value)
    torch.testing.assert_close(rkd(s, 0.1 * t @ rotation - 7, **options), value)


def test_offset_that_dwarfs_the_distances_is_no_trouble_in_single_precision() -> None:
    s, t = torch.randn(12, 5), torch.randn(12, 5)
    torch.testing.assert_close(rkd(s + 100, t - 300), rkd(s, t), rtol=1e-3, atol=0)


def test_views() -> None:
    s, t = torch.randn(3, 4, 2, 3), torch.randn(3, 5, 2, 3)
    each = [rkd(s[i].flatten(1).T, t[i].flatten(1).T) for i in range(3)]
    torch.testing.assert_close(rkd(s, t, view="sample"), torch.stack(each).mean())
    torch.testing.assert_close(rkd(s, t, view="pooled"), rkd(s.mean((2, 3)), t.mean((2, 3))))


def test_points_that_coincide_are_finite() -> None:
    s = torch.randn(6, 3)
    s[1] = s[0]
    s[3:] = 0
    for student in (s, torch.zeros(6, 3), torch.ones(1, 3)):
        student.requires_grad_()
        value = rkd(student, torch.randn_like(student))
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()
        assert student.grad.abs().max() < 1e3


def test_too_many_points_for_angles_raise() -> None:
    s = torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"2048 points.*draw at most 1024, or set angle to 0"):
        rkd(s, s)
    assert rkd(s, s, angle=0.0) < 1e-6
    assert rkd(s, s, draw=20) < 1e-6
