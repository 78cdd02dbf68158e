"""The critic of SKD: who learns by which term, what bounds it, and that its lesson brings maps together."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from torch import Tensor

from densekd.losses import SKDHolistic

CONTRACT = LossContract(
    "skd_holistic",
    options=dict(hidden_channels=4),
    no_fixed_point="a critic that is still to be learned finds a difference",
    stopped="the critic learns by one part, the student by the other",
    no_two_classes="its critic starts at random",
)


def critic(**options: int) -> SKDHolistic:
    torch.manual_seed(0)
    return SKDHolistic(**{"channels": 5, "hidden_channels": 4, **options}).double()


def score(loss: SKDHolistic, probabilities: Tensor) -> Tensor:
    """The critic as a plain network, its kernels divided by their norm from `torch.linalg`."""
    for layer in loss.layers:
        kernel = layer.weight / torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        probabilities = F.leaky_relu(F.conv2d(probabilities, kernel, layer.bias, stride=2, padding=1), 0.2)
    return loss.score(probabilities.mean((2, 3))).squeeze(1)


def pair() -> tuple[Tensor, Tensor]:
    s, t = torch.randn(2, 3, 5, 12, 9, dtype=torch.float64)
    return s.requires_grad_(), t


def test_each_side_learns_by_its_own_term() -> None:
    loss, (s, t) = critic(), pair()
    for layer in loss.layers:  # not orthogonal, as they start
        torch.nn.init.normal_(layer.weight)
        layer.u.copy_(torch.linalg.svd(layer.weight.detach().flatten(1)).U[:, 0])
    value = loss.eval()(s, t)
    value.backward()
    twin = copy.deepcopy(loss)
    twin.zero_grad()
    other = s.detach().clone().requires_grad_()
    real, fake = score(twin, t.softmax(1)), score(twin, other.softmax(1))
    hinge = (F.relu(1 - real) + F.relu(1 + fake)).mean()
    torch.testing.assert_close(value, hinge - fake.mean())
    (by_student,) = torch.autograd.grad(-fake.mean(), other, retain_graph=True)
    torch.testing.assert_close(s.grad, by_student)
    hinge.backward()
    for (name, one), expected in zip(loss.named_parameters(), twin.parameters()):
        torch.testing.assert_close(one.grad, expected.grad, msg=name)


def test_kernels_stay_bounded_while_the_critic_learns() -> None:
    loss, (s, t) = critic(), pair()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        loss(s.detach(), t).backward()
        optimizer.step()
    loss(s.detach(), t)
    for layer in loss.layers:
        assert torch.linalg.matrix_norm(layer()[0].flatten(1), ord=2) < 1.1


def test_the_student_learns_not_to_be_told_apart() -> None:
    """Maps of free logits, taught by the critic alone, come to have the teacher's share of each class."""
    torch.manual_seed(0)
    loss = SKDHolistic(channels=3, hidden_channels=8)
    teacher = 4 * F.one_hot(torch.arange(64).view(1, 8, 8) // 8 % 2, 3).permute(0, 3, 1, 2).float()
    student = torch.zeros(1, 3, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [student], "lr": 0.1}, {"params": loss.parameters(), "lr": 1e-3}])
    for _ in range(100):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    shares, expected = student.softmax(1).mean((0, 2, 3)), teacher.softmax(1).mean((0, 2, 3))
    assert (shares - expected).abs().max() < 0.15  # 0.3 to begin with


@pytest.mark.parametrize("size", [(1, 1), (3, 50)])
def test_any_size(size: tuple[int, int]) -> None:
    s, t = torch.randn(2, 1, 5, *size, dtype=torch.float64)
    assert critic()(s, t).isfinite()
