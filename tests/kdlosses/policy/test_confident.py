from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from torch import Tensor

import kdlosses
from kdlosses.policy.confident import confidence

CONTRACT = LossContract(
    "confident", options=dict(kappa=0.5), stopped="how sure the student is weighs and is taken as it is"
)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(3 * torch.randn(40, 4, generator=generator, dtype=torch.float64) for _ in range(2))


def test_formula(pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = (z.numpy() for z in pair)
    q, p = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (student, teacher))
    sure = (0.5 * (p + q)).max(1)
    w = sure * (sure >= 0.6)
    assert 0 < (w > 0).sum() < 40
    expected = (w * (p * np.log(p / q)).sum(1)).sum() / w.sum()
    value = kdlosses.build(dict(type="confident", kappa=0.6))(*pair)
    assert value.item() == pytest.approx(expected)


def test_at_zero_it_selects_all_and_weighs_them(pair: tuple[Tensor, Tensor]) -> None:
    loss = kdlosses.build(dict(type="confident", loss=dict(type="kl", tau=2.0), kappa=0.0))
    expected = kdlosses.kl(*pair, tau=2.0, weight=confidence(*pair))
    torch.testing.assert_close(loss(*pair), expected)


def test_what_is_not_sure_cannot_matter(pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = pair
    student.requires_grad_()
    loss = kdlosses.build(dict(type="confident", kappa=0.6))
    unsure = confidence(student, teacher, 0.6) == 0
    (slope,) = torch.autograd.grad(loss(student, teacher), student)
    assert (slope[unsure] == 0).all()
    assert (slope[~unsure].abs().sum(1) > 0).all()
    torch.testing.assert_close(loss(student[~unsure], teacher[~unsure]), loss(student, teacher))


def test_two_that_are_sure_of_different_things_are_not_sure() -> None:
    one, other = torch.tensor([[9.0, -9.0]]), torch.tensor([[-9.0, 9.0]])
    assert confidence(one, other).item() == pytest.approx(0.5)
    assert confidence(one, one).item() == pytest.approx(1)


def test_what_cannot_work_is_named() -> None:
    with pytest.raises(ValueError, match="kappa must be a probability"):
        kdlosses.build(dict(type="confident", kappa=2.0))

    def bare(student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).mean()

    with pytest.raises(ValueError, match="'bare' has no argument weight"):
        kdlosses.build(dict(type="confident", loss=bare))
