from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata
from torch import Tensor, nn

from kdlosses import USKD

CONTRACT = LossContract(
    "uskd",
    no_fixed_point="its target is made from the label and ranks alone",
    no_teacher="it has none",
)


def with_weak(weak: Tensor, **options: float) -> tuple[USKD, Tensor]:
    """The loss and a middle layer of which the head makes these logits."""
    classes = weak.shape[1]
    loss = USKD(student_channels=classes, classes=classes, **options).to(weak.dtype)
    with torch.no_grad():
        loss.head.weight.copy_(torch.eye(classes))
        loss.head.bias.zero_()
    return loss, weak


@pytest.mark.parametrize(("alpha", "beta", "classes"), [(1.0, 0.1, 6), (0.1, 1.0, 3), (1.0, 1.0, 2)])
def test_formula(alpha: float, beta: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    s, f, w = rng.normal(size=(9, classes)), rng.normal(size=(9, 4)), rng.random(9)
    y = rng.integers(classes, size=9)
    loss = USKD(4, classes, alpha=alpha, beta=beta, mu=0.3).double()
    weak = f @ loss.head.weight.detach().numpy().T + loss.head.bias.detach().numpy()
    q_y = softmax(s, axis=1)[np.arange(9), y]
    each = []
    for i in range(9):
        others = np.arange(classes) != y[i]
        p = 1 + q_y[i] ** 2 - np.average(q_y**2, weights=w)
        z = 1 / rankdata(-softmax(s[i, others]) - softmax(weak[i, others]))
        each.append(-alpha * p * np.log(q_y[i]) - beta * (z / z.sum() * log_softmax(s[i, others])).sum())
        each[-1] -= 0.3 * ((0.9 * ~others + 0.1 / classes) * log_softmax(weak[i])).sum()
    s, f, y, w = map(torch.from_numpy, (s, f, y, w))
    value = loss(f, f, labels=y, student_logits=s, weight=w)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_equal_scores_of_the_label_leave_the_hard_target() -> None:
    s, y = torch.randn(1, 4).repeat(6, 1), torch.zeros(6, dtype=torch.long)
    loss, f = with_weak(s, beta=0.0, mu=0.0)
    torch.testing.assert_close(loss(f, f, labels=y, student_logits=s), nn.functional.cross_entropy(s, y))


def test_a_permutation_of_the_other_classes_changes_nothing() -> None:
    s, weak, y = torch.randn(6, 5), torch.randn(6, 5), torch.zeros(6, dtype=torch.long)
    order = [0, 3, 1, 4, 2]
    loss, f = with_weak(weak)
    value = loss(f, f, labels=y, student_logits=s)
    torch.testing.assert_close(loss(f[:, order], f, labels=y, student_logits=s[:, order]), value)


def test_only_the_order_of_the_weak_head_matters() -> None:
    s, y = torch.zeros(1, 4), torch.tensor([0])
    loss, weak = with_weak(torch.tensor([[9.0, 1.0, 2.0, 3.0]]), mu=0.0)
    for other in ([[-9.0, 1.0, 2.0, 3.0]], [[0.0, 1.0, 1.1, 5.0]]):
        same = loss(torch.tensor(other), weak, labels=y, student_logits=s + weak)
        assert same == loss(weak, weak, labels=y, student_logits=s + weak)
    best = torch.tensor([[0.0, 2.0, 3.0, 6.0]]).log()  # 1/3, 1/2 and 1, whatever the label's logit
    best.requires_grad_()
    loss, _ = with_weak(weak, alpha=0.0, mu=0.0)
    (gradient,) = torch.autograd.grad(loss(weak, weak, labels=y, student_logits=best), best)
    assert gradient.abs().max() < 1e-6


def test_the_weak_head_learns_and_ranks_the_other_classes_for_the_student() -> None:
    """The middle layer tells which class comes second: the student's own answer takes that over, without a teacher."""
    torch.manual_seed(0)
    first = torch.arange(400) % 4
    second = (first + 1) % 4
    y = torch.where(torch.arange(400) % 5 == 0, second, first)  # a fifth has the second class as its label
    f = torch.eye(4)[first] + 0.02 * torch.randn(400, 4)
    loss, logits = USKD(4, classes=4, beta=1.0, mu=1.0), torch.zeros(400, 4, requires_grad=True)
    optimiser = torch.optim.Adam([*loss.parameters(), logits], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        loss(f, f, labels=y, student_logits=logits).backward()
        optimiser.step()
    order = logits.argsort(1, descending=True)[y == first]
    assert (loss.head(f).argmax(1) == first).all()
    assert (order[:, 0] == first[y == first]).all()
    assert (order[:, 1] == second[y == first]).float().mean() > 0.9


def test_logits_of_a_map_come_at_any_size() -> None:
    loss, y = USKD(5, classes=3), torch.randint(3, (2, 4, 4))
    f, z = torch.randn(2, 5, 4, 4), torch.randn(2, 3, 8, 8, requires_grad=True)
    loss(f, f, labels=y, student_logits=z).backward()
    assert z.grad.abs().sum() > 0


def test_one_class_and_other_logits_are_named() -> None:
    f, y = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="two classes"):
        USKD(4, classes=1)(f, f, labels=y, student_logits=torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"student_logits \(3, 5, 2\) do not fit the positions of \(3, 5\)"):
        USKD(4, classes=5)(f, f, labels=y, student_logits=torch.zeros(3, 5, 2))
    with pytest.raises(ValueError, match=r"built for 5 classes, one a channel, got student_logits \(3, 2\)"):
        USKD(4, classes=5)(f, f, labels=y, student_logits=torch.zeros(3, 2))
