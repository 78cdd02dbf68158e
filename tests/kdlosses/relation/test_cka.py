from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract

from kdlosses import cka

CONTRACT = LossContract("cka", over_pairs=True)


@pytest.mark.parametrize("channels", [3, 40])  # more and fewer points than channels
def test_formula_in_its_form_of_gram_matrices(channels: int) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(20, channels)), rng.normal(size=(20, 5))
    h = np.eye(20) - 1 / 20
    k, m = h @ s @ s.T @ h, h @ t @ t.T @ h
    expected = 1 - np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    np.testing.assert_allclose(cka(*map(torch.from_numpy, (s, t))).item(), expected, rtol=1e-10)


def test_is_one_minus_squared_correlation_of_single_channels() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 30))
    value = cka(torch.from_numpy(s)[:, None], torch.from_numpy(t)[:, None]).item()
    np.testing.assert_allclose(value, 1 - np.corrcoef(s, t)[0, 1] ** 2, rtol=1e-10)


def test_rotation_translation_and_scale_change_nothing_but_a_linear_map_does() -> None:
    s, t = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(cka(-1e-6 * s @ rotation + 3, 1e3 * t), cka(s, t))
    assert not torch.isclose(cka(s * torch.arange(1, 6), t), cka(s, t))


def test_is_symmetric_and_lies_between_0_and_1() -> None:
    s, t = torch.randn(30, 5), torch.randn(30, 4)
    torch.testing.assert_close(cka(s, t), cka(t, s))
    assert 0 < cka(s, t) < 1


def test_constant_points_are_unlike_anything() -> None:
    for s in (torch.full((6, 3), 2.0), torch.full((7, 3), 0.1), torch.randn(1, 3)):
        s.requires_grad_()
        value = cka(s, torch.randn_like(s))
        value.backward()
        assert value == 1
        assert s.grad.isfinite().all()


def test_views() -> None:
    s, t = torch.randn(3, 4, 2, 9), torch.randn(3, 5, 2, 9)
    each = [cka(s[i].flatten(1).T, t[i].flatten(1).T) for i in range(3)]
    torch.testing.assert_close(cka(s, t, view="sample"), torch.stack(each).mean())
    torch.testing.assert_close(cka(s, t, view="pooled"), cka(s.mean((2, 3)), t.mean((2, 3))))
