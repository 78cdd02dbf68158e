from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import kdlosses
from kdlosses.rules import Spliced, stitch


def meta() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 3)]


def test_the_same_module_on_both_paths_costs_nothing() -> None:
    shared, x = meta(), torch.randn(10, 6)
    before, after, block = stitch(4, 9), stitch(9, 4), nn.Linear(9, 9)
    teacher = Spliced(shared, 1, block, before, after, frozen=True)
    student = Spliced(shared, 1, *copy.deepcopy((block, before, after)))
    assert kdlosses.kl(student(x), teacher(x)).item() == pytest.approx(0, abs=1e-7)
    by_hand = shared[2](after(block(before(shared[0](x)))))
    torch.testing.assert_close(student(x), by_hand)


def test_gradient_reaches_the_module_and_its_stitches_alone() -> None:
    shared, x = meta(), torch.randn(10, 6)
    teacher = Spliced(shared, 1, nn.Linear(9, 9), stitch(4, 9), stitch(9, 4), frozen=True)
    student = Spliced(shared, 1, nn.Linear(5, 5), stitch(4, 5), stitch(5, 4))
    kdlosses.kl(student(x), teacher(x)).backward()
    for name, parameter in student.named_parameters():
        assert (parameter.grad is None) == name.startswith("meta")
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all()
    assert student.module.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_a_place_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="blocks 0 to 2, got place 3"):
        Spliced(meta(), 3, nn.Linear(4, 4))
