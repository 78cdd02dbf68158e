"""The pair-wise term of SKD against NumPy, patch by patch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from densekd.losses import skd_pairs
from kdlosses import rsd_gram
from kdlosses.unit import unit


def patches(f: np.ndarray, pool: int, weight: np.ndarray) -> np.ndarray:
    """Features `(C, h, w)` to maxima `(C, patches)` over what counts, of the patches where anything does."""
    found = []
    for y in range(0, f.shape[1], pool):
        for x in range(0, f.shape[2], pool):
            window = weight[y : y + pool, x : x + pool] > 0
            if window.any():
                found.append(f[:, y : y + pool, x : x + pool][:, window].max(1))
    return np.array(found).T


@pytest.mark.parametrize("channels", [3, 40])  # of patches there are fewer than forty
@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_formula(channels: int, pool: int, masked: bool) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, channels, 5, 7)), rng.normal(size=(2, 4, 5, 7))
    weight = rng.integers(0, 2, (2, 5, 7)) if masked else np.ones((2, 5, 7))
    if masked:
        weight[0, :2, :2] = 0  # a patch without any position
    each = []
    for n in range(2):
        grams = [cosine_similarity(patches(f[n], pool, weight[n]).T) for f in (s, t)]
        each.append(((grams[0] - grams[1]) ** 2).mean())
    value = skd_pairs(*map(torch.from_numpy, (s, t)), pool=pool, weight=torch.from_numpy(weight) if masked else None)
    np.testing.assert_allclose(value.item(), np.mean(each), rtol=1e-9)


def test_single_positions_are_rsd_gram_of_directions() -> None:
    s, t = torch.randn(2, 5, 4, 6), torch.randn(2, 3, 4, 6)
    expected = rsd_gram(unit(s, dim=1), unit(t, dim=1), view="sample")
    torch.testing.assert_close(skd_pairs(s, t, pool=1), expected)


def test_scale_of_a_map_changes_nothing() -> None:
    s, t = torch.randn(2, 5, 4, 6), torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(skd_pairs(3 * s, 7 * t), skd_pairs(s, t))


def test_a_large_map_costs_no_matrix_of_pairs() -> None:
    s, t = torch.randn(1, 4, 512, 512, requires_grad=True), torch.randn(1, 3, 512, 512)
    skd_pairs(s, t).backward()  # 65,536 patches: 17 GB of pairs
    assert s.grad.isfinite().all()
