from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import entr, softmax

from kdlosses import nkd

CONTRACT = LossContract("nkd", no_fixed_point="its target term goes on pushing the probability of the label to 1")


def reference(s: np.ndarray, t: np.ndarray, y: np.ndarray, gamma: float, tau: float) -> float:
    total = 0.0
    for z_s, z_t, label in zip(s, t, y):
        others = np.arange(len(z_s)) != label
        p, q = softmax(z_t), softmax(z_s)
        p_hat, q_hat = softmax(z_t[others] / tau), softmax(z_s[others] / tau)
        total += -p[label] * np.log(q[label]) - gamma * tau**2 * (p_hat * np.log(q_hat)).sum()
    return total / len(s)


@pytest.mark.parametrize(("gamma", "tau", "classes"), [(1.5, 1.0, 5), (3.5, 3.0, 7), (1.0, 2.0, 2)])
def test_formula(gamma: float, tau: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    s, t, y = rng.normal(size=(9, classes)), rng.normal(size=(9, classes)), rng.integers(classes, size=9)
    value = nkd(*map(torch.from_numpy, (s, t)), labels=torch.from_numpy(y), gamma=gamma, tau=tau)
    np.testing.assert_allclose(value.item(), reference(s, t, y, gamma, tau), rtol=1e-10)


def test_ignored_positions_do_not_count() -> None:
    s, t = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    labels = torch.randint(4, (1, 3, 3))
    void = labels.clone()
    void[0, 0], void[0, 1, 0] = 255, -100
    valid = torch.ones(1, 3, 3)
    valid[0, 0], valid[0, 1, 0] = 0, 0
    torch.testing.assert_close(nkd(s, t, labels=void), nkd(s, t, labels=labels, weight=valid))


def test_value_of_a_perfect_student() -> None:
    t, y = torch.randn(6, 5, dtype=torch.float64), torch.randint(5, (6,))
    p = softmax(t.numpy(), axis=1)
    p_y = p[np.arange(6), y]
    rest = p.copy()
    rest[np.arange(6), y] = 0
    rest /= rest.sum(1, keepdims=True)
    expected = (entr(p_y) + 1.5 * entr(rest).sum(1)).mean()
    np.testing.assert_allclose(nkd(t, t, labels=y).item(), expected, rtol=1e-12)


def test_the_other_classes_are_compared_whatever_the_label_has() -> None:
    """The other classes are normalised among themselves: what the student gives the label moves its own term alone."""
    s, t, y = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64), torch.randint(5, (6,))
    surer = s.scatter_add(1, y[:, None], torch.full((6, 1), 3.0, dtype=torch.float64))
    p_y = t.softmax(1).gather(1, y[:, None])
    own = [-(p_y * z.log_softmax(1).gather(1, y[:, None])).mean() for z in (s, surer)]
    torch.testing.assert_close(nkd(surer, t, labels=y) - own[1], nkd(s, t, labels=y) - own[0])


def test_one_class_has_no_others() -> None:
    with pytest.raises(ValueError, match="two classes"):
        nkd(torch.zeros(3, 1), torch.zeros(3, 1), labels=torch.zeros(3, dtype=torch.long))


def test_large_logits_stay_finite() -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    nkd(s, -s.detach(), labels=torch.tensor([1])).backward()
    assert s.grad.isfinite().all()
