from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kdlosses import dkd, kd


def parts(s: np.ndarray, t: np.ndarray, y: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Target and non-target divergence of each position, from the definition, column dropped and all."""
    target, others = [], []
    for z_s, z_t, label in zip(s, t, y):
        rest = np.arange(len(z_s)) != label
        p, q = softmax(z_t / tau)[label], softmax(z_s / tau)[label]
        target.append(rel_entr([p, 1 - p], [q, 1 - q]).sum())
        others.append(rel_entr(softmax(z_t[rest] / tau), softmax(z_s[rest] / tau)).sum())
    return np.array(target), np.array(others)


@pytest.mark.parametrize(("alpha", "beta", "tau", "classes"), [(1, 8, 4, 6), (1, 0.5, 1, 4), (0.3, 2, 2, 3)])
def test_formula(alpha: float, beta: float, tau: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    s, t, y, w = (
        rng.normal(size=(9, classes)),
        rng.normal(size=(9, classes)),
        rng.integers(classes, size=9),
        rng.random(9),
    )
    target, others = parts(s, t, y, tau)
    each = tau**2 * (alpha * target + beta * others)
    s, t, y, w = map(torch.from_numpy, (s, t, y, w))
    value = dkd(s, t, labels=y, alpha=alpha, beta=beta, tau=tau, weight=w)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_kd_is_dkd_with_the_teachers_doubt_as_beta() -> None:
    s, t, y = torch.randn(1, 5, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64), torch.tensor([2])
    doubt = 1 - (t / 4).softmax(1)[0, 2].item()
    torch.testing.assert_close(dkd(s, t, labels=y, beta=doubt), kd(s, t))


def test_shift_of_a_position_changes_nothing() -> None:
    s, t, shift = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3), torch.randn(2, 1, 3, 3)
    y = torch.randint(5, (2, 3, 3))
    torch.testing.assert_close(dkd(s + shift, t - shift, labels=y), dkd(s, t, labels=y))


def test_two_classes_have_no_other_to_tell_about() -> None:
    s, t, y = torch.randn(6, 2), torch.randn(6, 2), torch.randint(2, (6,))
    torch.testing.assert_close(dkd(s, t, labels=y, beta=100.0), dkd(s, t, labels=y, beta=0.0))


def test_ignored_positions_do_not_count() -> None:
    s, t, y = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 1, 255, 2, -100, 3])
    kept = torch.tensor([0, 1, 3, 5])
    torch.testing.assert_close(dkd(s, t, labels=y), dkd(s[kept], t[kept], labels=y[kept]))


def test_one_class_has_no_others() -> None:
    with pytest.raises(ValueError, match="two classes"):
        dkd(torch.zeros(3, 1), torch.zeros(3, 1), labels=torch.zeros(3, dtype=torch.long))


def test_large_logits_stay_finite() -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = dkd(s, -s.detach(), labels=torch.tensor([1]), tau=1.0)
    value.backward()
    assert value.isfinite()
    assert s.grad.isfinite().all()
