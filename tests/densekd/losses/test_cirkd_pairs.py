"""The mini-batch term of CIRKD against a loop over pairs of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax
from sklearn.metrics.pairwise import cosine_similarity

from densekd.losses import cirkd_pairs
from kdlosses import hybrid
from kdlosses.relation import blocks


def reference(s: np.ndarray, t: np.ndarray, weight: np.ndarray, tau: float) -> float:
    """Image by image, features `(N, C, n)`; weights of positions are 0 or 1."""
    values = []
    images = [n for n in range(len(s)) if weight[n].any()]
    for one in images:
        rows = np.zeros(int(weight[one].sum()))
        for other in images:
            shares = [
                softmax(cosine_similarity(f[one][:, weight[one]].T, f[other][:, weight[other]].T) / tau, axis=1)
                for f in (t, s)
            ]
            rows += rel_entr(*shares).sum(1) / len(images)
        values.extend(rows)
    return float(np.mean(values))


@pytest.mark.parametrize("masked", [False, True])
def test_formula(masked: bool) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(3, 4, 2, 6)), rng.normal(size=(3, 5, 2, 6))
    weight = rng.random((3, 2, 6)) < 0.6 if masked else np.ones((3, 2, 6), bool)
    if masked:
        weight[2] = False
    expected = reference(s.reshape(3, 4, -1), t.reshape(3, 5, -1), weight.reshape(3, -1), tau=0.3)
    value = cirkd_pairs(*map(torch.from_numpy, (s, t)), tau=0.3, weight=torch.from_numpy(weight) if masked else None)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-9)


def test_one_image_alone_is_hybrid() -> None:
    s, t = torch.randn(1, 5, 4, 6), torch.randn(1, 3, 4, 6)
    torch.testing.assert_close(cirkd_pairs(s, t), hybrid(s, t))


def test_pooling_first() -> None:
    s, t = torch.randn(2, 5, 5, 8, dtype=torch.float64), torch.randn(2, 3, 5, 8, dtype=torch.float64)
    pooled = [F.avg_pool2d(x, 2, ceil_mode=True) for x in (s, t)]
    torch.testing.assert_close(cirkd_pairs(s, t, pool=2), cirkd_pairs(*pooled))
    weight = torch.ones(2, 5, 8)
    weight[:, :, 6:] = 0  # windows whole or gone
    torch.testing.assert_close(cirkd_pairs(s, t, pool=2, weight=weight), cirkd_pairs(s[..., :6], t[..., :6], pool=2))


def test_rotation_and_scale_change_nothing() -> None:
    s, t = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 3, 3, 4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    turned = torch.einsum("dc,nchw->ndhw", rotation, 3 * s)
    torch.testing.assert_close(cirkd_pairs(turned, 7 * t), cirkd_pairs(s, t))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s, t = torch.randn(2, 4, 5, 6, requires_grad=True), torch.randn(2, 3, 5, 6)
    whole = torch.autograd.grad(cirkd_pairs(s, t), s)
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    torch.testing.assert_close(torch.autograd.grad(cirkd_pairs(s, t), s), whole)
