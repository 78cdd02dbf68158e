"""Policies about teachers: which count, what they are asked, and the student's own past as one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import densekd
from densekd.plain.selfdistill import selfdistill
from kdlosses.rules import selfdistill_weight

from .small import Trace, Watched, eyes, net, scenes, trained

HEADS = [dict(loss="kl", student="head", source=name, name=name) for name in ("near", "far")]


class Lost(nn.Module):
    """A teacher whose features say nothing of the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Identity(), nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(torch.sin(100 * x)))


@pytest.mark.parametrize("nearest", [True, False])
def test_the_teacher_of_the_alike_task_counts(nearest: bool) -> None:
    asked: list[int] = []
    far = Lost()
    far.head.register_forward_hook(lambda *_: asked.append(1))
    calls: list[int] = []

    class Look(densekd.policies.Policy):
        name = "look"

        def step(self, run: densekd.policies.Run, batch: Any) -> None:
            calls.append(len(asked))

    policies: list[Any] = [dict(type="similar", nearest=nearest, power=2.0, look=8), Trace(), Look()]
    result = trained(net, dict(near=eyes(), far=far), scenes(12, 0, noise=0.3), policies, distills=HEADS, control=False)
    policy, trace, _ = result.outcomes["student"].policies
    assert policy.similarity["near"] > policy.similarity["far"]
    near, other = policy.similarity.values()
    expected = [1.0, 0.0] if nearest else [near**2 / (near**2 + other**2), other**2 / (near**2 + other**2)]
    assert trace.weights[1] == pytest.approx(expected, rel=1e-4)
    assert calls[-1] - calls[0] == (0 if nearest else trace.steps - 1)  # of weight 0 it does not run


def test_sources_with_classes_of_their_own() -> None:
    torch.manual_seed(0)
    entries = [
        dict(loss="kl", student="body", teacher="head", source=name, name=name, adapt="conv1x1") for name in "ab"
    ]
    data = scenes(8, 0)
    result = trained(net, dict(a=net(6, 5), b=net(6, 2)), data, ["similar"], distills=entries, control=False)
    assert sum(result.outcomes["student"].policies[0].weights.values()) == pytest.approx(1)


def test_one_teacher_is_not_weighed() -> None:
    with pytest.raises(ValueError, match="policy 'similar' weighs teachers, and there is one"):
        trained(net, eyes(), scenes(4, 0), ["similar"])


@pytest.mark.parametrize("select", ["rad", "random"])
def test_the_teacher_is_asked_about_a_budget_of_images(select: str) -> None:
    data = Watched(scenes(20, 0), ["pool"] * 16 + ["labelled"] * 4)
    spec = dict(type="rad", budget=0.5, rounds=2, every=4, labelled="labelled", select=select)
    result = trained(net, eyes(), data, [spec], control=False)
    (policy,) = result.outcomes["student"].policies
    assert policy.asked.sum() == 8
    assert not policy.asked[16:].any()


def test_doubtful_images_are_asked_about_first() -> None:
    """Of half of the images the student is sure."""
    sure, dark = scenes(10, 0, noise=0.1), [(0 * image, label) for image, label in scenes(10, 1)]
    data = Watched(sure + dark)
    spec = dict(type="rad", budget=0.5, wrong=0.1, rounds=1)
    result = trained(eyes(), eyes(), data, [spec], control=False, distills=[dict(loss="kl", student="head")])
    (policy,) = result.outcomes["student"].policies
    assert policy.asked[10:].float().mean() == 1
    assert Counter(index >= 10 for index in data.read[-20:])[True] == 20


def test_snapshots_vote_from_the_first_one_on() -> None:
    entry = dict(loss="average", student="head", source=["one", "two"])
    teachers = dict(one="past", two="past")
    steps: list[list[float]] = []

    class Look(densekd.policies.Policy):
        name = "look"

        def step(self, run: densekd.policies.Run, batch: Any) -> None:
            now = run.student.head.bias.detach().clone()
            steps.append(
                [run.terms[0].weight, *((m.head.bias - now).abs().sum().item() for m in run.teachers.values())]
            )

    spec = dict(type="snapshots", every=3)
    trained(net, teachers, scenes(16, 0), [spec, Look()], distills=[entry], control=False, epochs=3)
    weights, one, two = zip(*steps)
    assert weights == (0.0,) * 3 + (1.0,) * 9
    assert [step for step in range(3, 12) if one[step] == 0] == [3, 9]  # taken at 3 by both, then in turn
    assert [step for step in range(3, 12) if two[step] == 0] == [3, 6]


def test_a_partition_keeps_the_student_as_it_was_at_a_point() -> None:
    entry = dict(loss="partition", student="head", source=["trained", "before"])
    teachers = dict(trained=eyes(), before="past")
    seen: list[torch.Tensor] = []

    class Look(densekd.policies.Policy):
        name = "look"

        def step(self, run: densekd.policies.Run, batch: Any) -> None:
            seen.append(run.teachers["before"].head.bias.clone())

    data = scenes(16, 0)
    trained(net, teachers, data, [dict(type="snapshots", at=0.5), Look()], distills=[entry], control=False)
    assert all(torch.equal(each, seen[4]) for each in seen[4:])
    assert not torch.equal(seen[3], seen[4])


def test_snapshots_need_a_past() -> None:
    with pytest.raises(ValueError, match="policy 'snapshots' needs teachers that are 'past'"):
        trained(net, eyes(), scenes(4, 0), [dict(type="snapshots", every=2)])
    with pytest.raises(ValueError, match="give either every=, a number of steps, or at="):
        trained(net, "past", scenes(4, 0), ["snapshots"])


def test_each_step_of_self_distillation_has_the_best_weight() -> None:
    """Against the two fits by hand, and the closed form on the images that neither has seen."""
    quick: dict[str, Any] = dict(val=scenes(4, 1), epochs=2, lr=0.02, batch_size=4, device="cpu", log=str)
    data, teacher = scenes(16, 0, wrong=0.3), eyes()
    found = selfdistill(net, teacher, train=data, steps=2, logits="head", **quick)
    assert len(found.weights) == len(found.results) == 2
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).tolist()
    out, part = [data[i] for i in order[:4]], [data[i] for i in order[4:]]
    kl = [dict(loss="kl", student="head")]
    taught = densekd.fit(net, train=part, **quick).student
    retaught = densekd.fit(net, teacher, train=part, distills=kl, task_weight=0, control=False, **quick).student
    images, labels = (torch.stack(each) for each in zip(*out))
    target = nn.functional.one_hot(labels, 3).movedim(-1, 1).double()
    with torch.no_grad():
        fits = [model.eval()(images).double().softmax(1) for model in (taught, retaught)]
    assert found.weights[0] == pytest.approx(selfdistill_weight(target, *fits).item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"held=0\.01 of 16 images leaves none"):
        selfdistill(net, train=data, held=0.01, **quick)
