"""Policies that change the student: low-bit weights, a start near the teacher, aligned weights of new classes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from densekd.plain.probe import probed

from .small import eyes, net, scenes, trained

DATA = scenes(12, 0)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if name.endswith("weight") and value.ndim > 1}


@pytest.mark.parametrize("learnt", [False, True])
def test_the_student_and_its_control_are_left_with_few_values_and_plain_names(learnt: bool) -> None:
    torch.manual_seed(0)
    student = net(8)
    before = copy.deepcopy(student.state_dict())
    spec = dict(type="quantised", bits=2, bucket=1000, learnt=learnt)
    result = trained(student, eyes(), DATA, [spec])
    for role in ("student", "control"):
        model = result.outcomes[role].model
        assert model.state_dict().keys() == before.keys()
        assert all(len(value.unique()) <= 4 for value in weights_of(model).values())
        assert all(each.requires_grad for each in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_training_with_few_bits_beats_rounding_at_the_end() -> None:
    data, spec = scenes(24, 1), dict(type="quantised", bits=1, bucket=1000)
    gains = []
    for seed in range(2):
        quick: dict[str, Any] = dict(epochs=6, test=scenes(12, 2), control=False, seed=seed)
        taught = trained(lambda: net(8), eyes(), data, [spec], **quick)
        whole = trained(lambda: net(8), eyes(), data, [], **quick).student
        rounded = trained(whole, None, data, [spec], test=quick["test"], lr=1e-12, epochs=1)
        gains.append(taught.metrics["student"]["mIoU"] - rounded.metrics["student"]["mIoU"])
    assert sum(gains) / 2 > 0.02


def test_only_the_points_learn() -> None:
    torch.manual_seed(0)
    student = net(8)
    found = trained(student, eyes(), DATA, [dict(type="quantised", bits=2, learnt=True, bucket=1000)], control=False)
    same = dict(student.named_parameters())
    for name, value in found.student.named_parameters():
        assert torch.equal(value, same[name]) == (value.ndim == 1), name


def test_32_bits_are_no_quantisation() -> None:
    one, other = (
        trained(net, eyes(), DATA, policies, control=False).student.state_dict()
        for policies in ([dict(type="quantised", bits=32)], [])
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_student_that_starts_at_its_random_teacher_has_nothing_to_learn() -> None:
    torch.manual_seed(1)
    teacher = net()
    options: dict[str, Any] = dict(task_weight=0.0, control=False, epochs=1)
    at = trained(net, teacher, DATA, [dict(type="start_near", near=0.0)], **options).student
    for name, value in at.named_parameters():
        torch.testing.assert_close(value, dict(teacher.named_parameters())[name], atol=0.05, rtol=0.1)
    away = trained(net, teacher, DATA, [], **options).student
    distance = [(model.head.weight - teacher.head.weight).norm() for model in (at, away)]
    assert distance[0] < 0.3 * distance[1]
    with pytest.raises(ValueError, match="a start near the teacher needs the same architecture"):
        trained(lambda: net(6), teacher, DATA, ["start_near"])


def test_a_probe_finds_what_the_features_tell() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(0 * x)

    clear = scenes(6, 3, noise=0.1), scenes(6, 4, noise=0.1)
    assert probed(eyes(), *clear, tap="body", classes=3) > 0.95
    assert probed(Blind(), *clear, tap="body", classes=3) < 0.4


def test_new_classes_have_the_norm_of_the_old_ones() -> None:
    torch.manual_seed(0)
    student = net()
    student.head.weight.data[2] *= 20
    found = trained(student, None, DATA, [dict(type="weight_align", old=2)], lr=1e-6).student.head.weight
    norms = found.flatten(1).norm(dim=1)
    assert norms[2].item() == pytest.approx(norms[:2].mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="has 3 rows of weights, of which 1 to 2 can be of old classes, got 3"):
        trained(net, None, DATA, [dict(type="weight_align", old=3)])


def test_wrong_bits_are_named_before_training() -> None:
    for wrong in (dict(bits=0), dict(bits=20, learnt=True), dict(bucket=1)):
        with pytest.raises(ValueError, match=r"quantise|must be at least"):
            trained(net, eyes(), DATA, [dict(type="quantised", **wrong)])
    with pytest.raises(ValueError, match="teacher 'teacher' is made of the student, whose weights are quantised"):
        trained(net, "ema", DATA, ["quantised"])


def test_one_policy_changes_the_trained_weights() -> None:
    both: list[Any] = [dict(type="weight_align", old=2), dict(type="quantised", bits=2)]
    with pytest.raises(ValueError, match="the policies weight_align and quantised both change the trained weights"):
        trained(net, eyes(), DATA, both)
