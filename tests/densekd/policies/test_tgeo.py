"""The ratio of labels and teacher, learned on held-out images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from densekd.plain.distillation import Distillation
from densekd.plain.running import PlainRun
from densekd.policies import build_policies

from .small import Pair, Watched, eyes, net, scenes, trained

ENTRIES = [dict(loss="tgeo", student="head")]


class Half(nn.Module):
    """A teacher that is right about the left half of each image, and says anything about the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.head = eyes()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.head(images)
        return torch.cat([found[..., :8], -found[..., 8:]], dim=-1)


def run_of(data: list[Pair], **options: Any) -> tuple[PlainRun, Any]:
    torch.manual_seed(0)
    images = torch.stack([image for image, _ in data[:4]])
    learner = Distillation(net(), eyes(), ENTRIES, example=images, classes=3)
    (policy,) = build_policies([dict(type="tgeo", **options)])
    run = PlainRun(learner, [policy], data, 4, 1, 0, 0.0, 255, torch.device("cpu"))
    run.start(None)  # type: ignore[arg-type]
    return run, policy


def test_the_gradient_is_that_of_a_step_ahead() -> None:
    """Against the held-out loss after a small step of gradient descent, differentiated through that step."""
    data = scenes(12, 0)
    run, policy = run_of(data, held=0.5)
    run.student.double().eval()
    policy.fused.double()
    pairs = [(image.double(), label) for image, label in data]
    batch, held = ([torch.stack(part) for part in zip(*some)] for some in (pairs[:4], pairs[4:8]))
    run.guides["teacher"].model.double()
    policy.fused.train()(run.student(batch[0]), run.teachers["teacher"](batch[0]), labels=batch[1])  # the class means

    parameters = dict(run.student.named_parameters())
    policy.fused.ratio.requires_grad_(True)
    with torch.no_grad():
        told, here = run.teachers["teacher"](batch[0]), run.student(batch[0])
    ratio = policy.fused.ratio_of(here, told, batch[1])
    loss = policy.fused.fused(run.student(batch[0]), told, batch[1], ratio)
    slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    moved = {name: value - 1e-5 * slope for (name, value), slope in zip(parameters.items(), slopes)}
    outer = nn.functional.cross_entropy(functional_call(run.student, moved, (held[0],)), held[1])
    expected = torch.autograd.grad(outer, list(policy.fused.ratio.parameters()))
    policy.fused.ratio.requires_grad_(False)

    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    policy.ahead = 1e-6
    gradients: list[torch.Tensor] = []
    step = policy.optimiser.step
    policy.optimiser.step = lambda: (gradients.extend(each.grad for each in policy.fused.ratio.parameters()), step())
    with run.aside(gradients=True):
        policy._learn(run, batch, held)
    assert all(torch.equal(value, before[name]) for name, value in run.student.state_dict().items())
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(1e-5 * found, wanted, rtol=0.01, atol=1e-3 * wanted.abs().max().item())
    assert all(each.grad is None for each in policy.fused.ratio.parameters())  # the student's optimiser sees none


def test_where_the_teacher_is_wrong_the_labels_count() -> None:
    data, teacher = scenes(24, 0, noise=0.3), Half()
    options = dict(type="tgeo", every=2, held=0.25)
    result = trained(net, teacher, data, [options], distills=ENTRIES, task_weight=0.0, control=False, epochs=6)
    policy = result.outcomes["student"].policies[0]
    images, labels = (torch.stack(part) for part in zip(*scenes(4, 5, noise=0.3)))
    with torch.no_grad():
        ratio = policy.fused.ratio_of(result.student(images), teacher(images), labels).logit()
    assert ratio[..., :8].mean() > ratio[..., 8:].mean() + 1


def test_held_out_images_teach_the_ratio_alone() -> None:
    data = Watched(scenes(20, 0))
    result = trained(
        net, eyes(), data, [dict(type="tgeo", every=100)], distills=ENTRIES, task_weight=0, control=False, epochs=1
    )
    held = {*result.outcomes["student"].policies[0].held.tolist()}
    assert len(held) == 4
    assert not held & {*data.read[-4:]}
    assert {*data.read} == {*range(20)}


def test_what_does_not_fit_is_said() -> None:
    data = scenes(8, 0)
    with pytest.raises(ValueError, match="policy 'tgeo' learns the ratio of one entry with one teacher"):
        trained(net, eyes(), data, ["tgeo"], task_weight=0)
    with pytest.raises(ValueError, match="give task_weight=0 beside it"):
        trained(net, eyes(), data, ["tgeo"], distills=ENTRIES)
    with pytest.raises(ValueError, match=r"held=0\.01 of 8 images leaves none to hold out"):
        trained(net, eyes(), data, [dict(type="tgeo", held=0.01)], distills=ENTRIES, task_weight=0)
    with pytest.raises(ValueError, match="held is a share between 0 and 1"):
        trained(net, eyes(), data, [dict(type="tgeo", held=1.0)], distills=ENTRIES, task_weight=0)
