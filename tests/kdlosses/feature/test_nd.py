from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract

from kdlosses import ND

CONTRACT = LossContract("nd", no_fixed_point="its minimum is the mean of the class, not the feature of the sample")


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, means, w = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.normal(size=(4, 3)), rng.random(9)
    y = rng.integers(0, 4, 9)
    y[2] = 255
    means = means.astype(np.float32).astype(float)  # as the buffer keeps them
    each = [
        1 - s[i] @ means[y[i]] / np.linalg.norm(means[y[i]]) / max(np.linalg.norm(s[i]), np.linalg.norm(t[i]))
        for i in range(9)
        if i != 2
    ]
    loss = ND(4, 3, means=means.tolist()).double()
    value = loss(*map(torch.from_numpy, (s, t)), labels=torch.from_numpy(y), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=np.delete(w, 2)), rtol=1e-10)


def test_means_are_those_of_all_batches_seen() -> None:
    t, y = torch.randn(60, 3), torch.randint(4, (60,))
    loss = ND(4, 3)
    for part in torch.arange(60).split(12):
        loss(torch.randn(12, 3), t[part], labels=y[part])
    expected = torch.stack([t[y == c].mean(0) for c in range(4)])
    torch.testing.assert_close(loss.teacher.mean, expected)
    loss.eval()(torch.randn(60, 3), 5 + t, labels=y)
    torch.testing.assert_close(loss.teacher.mean, expected)


def test_given_means_stay() -> None:
    loss = ND(2, 3, means=torch.eye(2, 3))
    loss(torch.randn(5, 3), torch.randn(5, 3), labels=torch.tensor([0, 1, 0, 1, 1]))
    torch.testing.assert_close(loss.teacher.mean, torch.eye(2, 3))


def test_longer_and_aligned_is_zero_and_zero_is_one() -> None:
    loss, y, t = ND(1, 2, means=[[3.0, 4.0]]), torch.tensor([0]), torch.tensor([[1.0, 0.0]])
    aligned = torch.tensor([[0.6, 0.8]])
    for scale in (1.0, 10.0):
        torch.testing.assert_close(loss(scale * aligned, t, labels=y), torch.tensor(0.0))
    torch.testing.assert_close(loss(-aligned, t, labels=y), torch.tensor(2.0))
    zero = torch.zeros(1, 2, requires_grad=True)
    value = loss(zero, t, labels=y)
    value.backward()
    assert value == 1
    assert zero.grad.isfinite().all()


def test_scale_above_the_teacher_changes_nothing_and_has_no_gradient() -> None:
    loss, y = ND(1, 3, means=[[1.0, 0.0, 0.0]]), torch.zeros(4, dtype=torch.long)
    s, t = 10 + torch.rand(4, 3), torch.rand(4, 3)
    s.requires_grad_()
    value = loss(s, t, labels=y)
    torch.testing.assert_close(loss(2 * s, t, labels=y), value)
    (gradient,) = torch.autograd.grad(value, s)
    assert (gradient * s).sum(1).abs().max() < 1e-6


def test_means_of_another_shape_raise() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\), got \(3, 4\)"):
        ND(4, 3, means=torch.randn(3, 4))
