from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

from kdlosses import uskd

CONTRACT = LossContract(
    "uskd",
    no_fixed_point="its target is made from the label and ranks alone",
    stopped="the target, made of the student's own scores, is taken as it is",
    no_teacher="its target is made of the label and the student's ranks",
)


@pytest.mark.parametrize(("alpha", "beta", "classes"), [(1.0, 0.1, 6), (0.1, 1.0, 3), (1.0, 1.0, 2)])
def test_formula(alpha: float, beta: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    s, weak, w = rng.normal(size=(9, classes)), rng.normal(size=(9, classes)), rng.random(9)
    y = rng.integers(classes, size=9)
    q_y = softmax(s, axis=1)[np.arange(9), y]
    each = []
    for i in range(9):
        others = np.arange(classes) != y[i]
        p = 1 + q_y[i] ** 2 - np.average(q_y**2, weights=w)
        z = 1 / rankdata(-softmax(s[i, others]) - softmax(weak[i, others]))
        each.append(-alpha * p * np.log(q_y[i]) - beta * (z / z.sum() * log_softmax(s[i, others])).sum())
    s, weak, y, w = map(torch.from_numpy, (s, weak, y, w))
    value = uskd(s, weak, labels=y, alpha=alpha, beta=beta, weight=w)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_equal_scores_of_the_label_leave_the_hard_target() -> None:
    s, y = torch.randn(1, 4).repeat(6, 1), torch.zeros(6, dtype=torch.long)
    torch.testing.assert_close(uskd(s, s, labels=y, beta=0.0), torch.nn.functional.cross_entropy(s, y))


def test_a_permutation_of_the_other_classes_changes_nothing() -> None:
    s, weak, y = torch.randn(6, 5), torch.randn(6, 5), torch.zeros(6, dtype=torch.long)
    order = [0, 3, 1, 4, 2]
    torch.testing.assert_close(uskd(s[:, order], weak[:, order], labels=y), uskd(s, weak, labels=y))


def test_only_the_order_of_the_weak_head_matters() -> None:
    s, y = torch.zeros(1, 4), torch.tensor([0])
    weak = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    for other in ([[-9.0, 1.0, 2.0, 3.0]], [[0.0, 1.0, 1.1, 5.0]]):
        assert uskd(s + weak, torch.tensor(other), labels=y) == uskd(s + weak, weak, labels=y)
    best = torch.tensor([[0.0, 2.0, 3.0, 6.0]]).log()  # 1/3, 1/2 and 1, whatever the label's logit
    best.requires_grad_()
    (gradient,) = torch.autograd.grad(uskd(best, weak, labels=y, alpha=0.0), best)
    assert gradient.abs().max() < 1e-6


def test_one_class_has_no_others() -> None:
    with pytest.raises(ValueError, match="two classes"):
        uskd(torch.zeros(3, 1), torch.zeros(3, 1), labels=torch.zeros(3, dtype=torch.long))
