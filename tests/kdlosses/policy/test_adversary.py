from __future__ import annotations

import pytest
import torch
from contract.entry import LossContract

import kdlosses

CONTRACT = LossContract(
    "adversary",
    no_fixed_point="a discriminator that is still to be learned finds a difference",
    stopped="the gradient of the discriminator is turned round",
    no_two_classes="its discriminator starts at random",
)


def adversary(direction: str, **options: object) -> kdlosses.Loss:
    torch.manual_seed(0)
    return kdlosses.build(dict(type="adversary", classes=4, direction=direction, **options))


def test_value_is_the_loss_and_the_cross_entropy_of_the_discriminator() -> None:
    s, t = torch.randn(6, 4), torch.randn(6, 8)
    weight = torch.tensor([1.0, 2, 0, 1, 1, 0])
    loss = adversary("against", strength=0.3)
    judge = loss.loss.discriminator
    mean = (t[:, :4].softmax(1) + t[:, 4:].softmax(1)) / 2
    scores = torch.cat([judge(mean), judge(s.softmax(1))]).squeeze(1)
    truth = torch.cat([torch.ones(6), torch.zeros(6)])
    told = torch.nn.functional.binary_cross_entropy_with_logits(scores, truth, weight.repeat(2), reduction="sum")
    expected = kdlosses.meal(s, t, weight=weight) + 0.3 * told / (2 * weight.sum())
    torch.testing.assert_close(loss(s, t, weight=weight), expected)


def test_the_direction_turns_the_student_and_not_the_discriminator() -> None:
    s, t = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    silent = torch.autograd.grad(kdlosses.meal(s, t), s)[0]
    gradients = []
    for direction in ("against", "with"):
        loss = adversary(direction)
        loss(s, t).backward()
        gradients.append((s.grad - silent, [p.grad for p in loss.parameters()]))
        s.grad = None
    torch.testing.assert_close(gradients[0][0], -gradients[1][0])
    assert gradients[0][0].abs().sum() > 0
    for one, other in zip(gradients[0][1], gradients[1][1]):
        torch.testing.assert_close(one, other)


def test_a_student_against_whom_it_plays_is_not_told_apart() -> None:
    """Trained on the adversary alone (a constant loss inside), only `against` ends where the teacher is."""

    def nothing(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return 0 * student.sum()

    distance = {}
    for direction in ("against", "with"):
        loss = adversary(direction, loss=nothing)
        s = torch.zeros(64, 4, requires_grad=True)
        t = torch.tensor([3.0, 0.0, 0.0, 0.0]).repeat(64, 1)
        optimiser = torch.optim.Adam([{"params": [s], "lr": 0.02}, {"params": loss.parameters(), "lr": 0.01}])
        for _ in range(300):
            optimiser.zero_grad()
            loss(s, t).backward()
            optimiser.step()
        distance[direction] = kdlosses.kl(s, t).item()
    start = kdlosses.kl(torch.zeros(64, 4), t).item()
    assert distance["against"] < 0.75 * start < start < distance["with"]


def test_a_direction_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="'against' or 'with'"):
        adversary("sideways")
