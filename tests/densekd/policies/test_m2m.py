"""Stages of a student, taught one by one in the place of the teacher's."""

from __future__ import annotations

import copy
from collections import OrderedDict
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import densekd
from kdlosses.rules.m2m import spliced

from .small import eyes, net, scenes, trained

DATA = scenes(16, 0, noise=0.5)


def deep(width: int, layers: int = 1) -> nn.Module:
    """A segmenter of two stages, without batch norms."""

    def stage(before: int) -> nn.Module:
        widths = [before, *[width] * layers]
        each = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths)]
        return nn.Sequential(*each)

    return nn.Sequential(OrderedDict(first=stage(3), second=stage(width), head=nn.Conv2d(width, 3, 1)))


class Look(densekd.policies.Policy):
    """The student, and how many random numbers were drawn, when the policies before have started."""

    name = "look"

    def start(self, run: densekd.policies.Run) -> None:
        self.student, self.drawn = copy.deepcopy(run.student), torch.rand(())


def begun(student: nn.Module, teacher: nn.Module, *policies: Any, **options: Any) -> Any:
    """The student before its first step."""
    result = trained(student, teacher, DATA, [*policies, Look()], control=False, epochs=1, distills=KL, **options)
    return result.outcomes["student"].policies[-1]


KL = [dict(loss="kl", student="head", class_weight=[0.5, 1.0, 1.0])]


def test_a_stage_learns_to_do_the_teachers_work_in_the_teachers_network() -> None:
    torch.manual_seed(0)
    teacher = trained(lambda: deep(6), None, scenes(32, 5, noise=0.5), [], epochs=6).student
    student = deep(6)
    kept, images = copy.deepcopy(teacher.state_dict()), torch.stack([image for image, _ in scenes(8, 7, noise=0.5)])
    found, plain = (
        begun(student, teacher, *policies)
        for policies in ([dict(type="m2m", stages=["second"], share=1.0, steps=40, lr=0.01)], [])
    )
    assert found.drawn == plain.drawn  # of the run's own random numbers none is used up
    assert all(torch.equal(value, kept[name]) for name, value in teacher.state_dict().items())
    moved = (
        name for name, one in found.student.state_dict().items() if not torch.equal(one, student.state_dict()[name])
    )
    assert {name.split(".")[0] for name in moved} == {"second"}

    def departs(stage: nn.Module) -> float:
        with torch.no_grad():
            told = teacher(images).log_softmax(1)
            with spliced(teacher, "second", stage):
                said = teacher(images).log_softmax(1)
        return (told.exp() * (told - said)).sum(1).mean().item()

    assert departs(found.student.second) < 0.3 * departs(student.second)
    assert departs(teacher.second) == 0


def test_stages_taught_one_by_one_are_a_head_start() -> None:
    """Of a deeper teacher of the same widths: after a pass over the data it is far ahead of a student from scratch."""
    teacher = trained(lambda: deep(6, 2), None, scenes(32, 5, noise=0.5), [], epochs=8).student
    spec = dict(type="m2m", stages=["first", "second", "head"], steps=40, lr=0.01)
    options: dict[str, Any] = dict(distills=KL, control=False, epochs=1, test=scenes(16, 9, noise=0.5))
    taught, plain = (
        trained(lambda: deep(6), teacher, DATA, policies, **options).metrics["student"]["mIoU"]
        for policies in ([spec], [])
    )
    assert taught > plain + 0.1


def test_a_batch_norm_that_the_student_keeps_at_rest_stays_as_it_is() -> None:
    class AtRest(nn.Sequential):
        def train(self, mode: bool = True) -> AtRest:
            super().train(mode)
            self.body[1].eval()
            return self

    spec = dict(type="m2m", stages=["body"], steps=2)
    for kind, moves in ((AtRest, False), (nn.Sequential, True)):
        found = begun(kind(OrderedDict(net().named_children())), net(6), spec).student.body[1]
        assert found.training == moves
        assert (found.running_mean.abs().sum() > 0) == moves


def test_what_does_not_fit_is_said() -> None:
    for wrong in (dict(steps=0), dict(share=2.0), dict(lr=0.0)):
        with pytest.raises(ValueError, match="policy 'm2m'"):
            begun(deep(3), deep(4), dict(type="m2m", stages=["first"], **wrong))
    with pytest.raises(ValueError, match="the stages of Sequential are not known"):
        begun(deep(3), deep(4), "m2m")
    with pytest.raises(KeyError, match="no module 'third'"):
        begun(deep(3), deep(4), dict(type="m2m", stages=["third"]))
    for stages in ("first", [1], dict(first=None), 5):
        with pytest.raises(TypeError, match="stages is a list of paths, or a dict of the student's"):
            begun(deep(3), deep(4), dict(type="m2m", stages=stages))
    frozen = deep(3)
    frozen.first.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing in 'first' of the student can learn: leave it out"):
        begun(frozen, deep(4), dict(type="m2m", stages=["first"]))
    coarse = deep(4)
    coarse.first[0][0].stride = 2, 2
    with pytest.raises(ValueError, match="give stages that shrink an image alike"):
        begun(deep(3), coarse, dict(type="m2m", stages=["first"]))
    with pytest.raises(ValueError, match="policy 'm2m' needs a teacher"):
        trained(net, None, DATA, ["m2m"])
    assert begun(net(), eyes(), dict(type="m2m", stages={"head": "head"}, steps=1)).student  # of other widths before it
