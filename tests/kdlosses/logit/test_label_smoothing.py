from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from scipy.special import log_softmax

from kdlosses import label_smoothing

CONTRACT = LossContract(
    "label_smoothing", no_fixed_point="there is no teacher in it", no_teacher="its target is made of the label"
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_formula(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    s, y, w = rng.normal(size=(9, 5)), rng.integers(5, size=9), rng.random(9)
    u = np.full((9, 5), smoothing / 4)
    u[np.arange(9), y] = 1 - smoothing
    each = -(u * log_softmax(s, axis=1)).sum(1)
    s, y, w = map(torch.from_numpy, (s, y, w))
    value = label_smoothing(s, s, labels=y, smoothing=smoothing, weight=w)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_other_convention_converts_as_stated() -> None:
    s, y = torch.randn(2, 5, 3, 3), torch.randint(5, (2, 3, 3))
    y[0, 0, 0] = 255
    expected = F.cross_entropy(s, y, label_smoothing=0.1, ignore_index=255)
    torch.testing.assert_close(label_smoothing(s, s, labels=y, smoothing=0.1 * 4 / 5), expected)


def test_is_least_at_its_target_and_pushes_no_shift() -> None:
    y = torch.arange(4)
    s = torch.full((4, 4), 0.1 / 3, dtype=torch.float64).fill_diagonal_(0.9).log().requires_grad_()
    (at_target,) = torch.autograd.grad(label_smoothing(s, s, labels=y), s)
    assert at_target.abs().max() < 1e-12
    z = torch.randn(4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(label_smoothing(z, z, labels=y), z)
    assert gradient.sum(1).abs().max() < 1e-6


def test_the_teacher_is_not_read() -> None:
    s, y = torch.randn(6, 5), torch.randint(5, (6,))
    assert label_smoothing(s, torch.full((6, 3), float("nan")), labels=y) == label_smoothing(s, s, labels=y)
