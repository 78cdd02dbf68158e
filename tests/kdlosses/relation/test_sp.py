from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from sklearn.preprocessing import normalize

from kdlosses import sp

CONTRACT = LossContract("sp", over_pairs=True)


@pytest.mark.parametrize("channels", [3, 40])  # more and fewer points than channels
def test_formula(channels: int) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(9, channels)), rng.normal(size=(9, 5))
    expected = ((normalize(s @ s.T) - normalize(t @ t.T)) ** 2).sum() / 81
    np.testing.assert_allclose(sp(*map(torch.from_numpy, (s, t))).item(), expected, rtol=1e-10)


def test_flat_view_takes_images_as_samples() -> None:
    s, t = torch.randn(4, 3, 5, 5), torch.randn(4, 7, 5, 5)
    torch.testing.assert_close(sp(s, t, view="flat"), sp(s.flatten(1), t.flatten(1)))


def test_rotation_and_scale_change_nothing_but_translation_does() -> None:
    s, t = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(sp(3 * s @ rotation, 0.2 * t), sp(s, t))
    assert not torch.isclose(sp(s + 1, t), sp(s, t))


def test_range() -> None:
    s = torch.randn(10, 3)
    assert 0 <= sp(s, torch.randn(10, 4)) <= 4 / 10


def test_zero_rows_are_finite() -> None:
    for s in (torch.zeros(5, 3), torch.eye(5, 3)):
        s.requires_grad_()
        value = sp(s, torch.randn(5, 4))
        value.backward()
        assert value.isfinite()
        assert s.grad.isfinite().all()
    assert sp(torch.zeros(5, 3), torch.randn(5, 4)) == pytest.approx(1 / 5)  # rows of length 1 against rows of 0
