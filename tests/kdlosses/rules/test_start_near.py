from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from kdlosses.rules import start_near


def net(seed: int, width: int = 400) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


@pytest.mark.parametrize("near", [0.0, 0.3, 1.0])
def test_the_formula_and_the_ends(near: float) -> None:
    student, teacher = net(0), net(1)
    before = copy.deepcopy(student)
    start_near(student, teacher, near)
    for found, own, theirs in zip(student.parameters(), before.parameters(), teacher.parameters(), strict=True):
        expected = ((1 - near) * theirs + near * own) / math.sqrt(near**2 + (1 - near) ** 2)
        torch.testing.assert_close(found, expected)
        if near in (0, 1):
            assert torch.equal(found, theirs if near == 0 else own)


def test_the_variance_of_an_initialisation_is_kept() -> None:
    student, teacher = net(0), net(1)
    start_near(student, teacher, 0.5)
    assert student[0].weight.std().item() == pytest.approx(teacher[0].weight.std().item(), rel=0.01)


def test_another_architecture_is_named() -> None:
    with pytest.raises(ValueError, match=r"parameter '0.bias' is \(3,\), the teacher's \(400,\)"):
        start_near(net(0, width=3), net(1))
    with pytest.raises(ValueError, match="near is a share"):
        start_near(net(0), net(1), near=1.5)
