"""Images on which a student departs from its teachers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import densekd
from densekd.plain.distillation import Distillation
from densekd.plain.running import PlainRun
from densekd.policies import build_policies
from densekd.policies.hard import Change

from .small import Pair, eyes, net, scenes, trained

KL = [dict(loss="kl", student="head")]


def run_of(data: list[Pair], **options: Any) -> tuple[PlainRun, Any, Any]:
    """A run before its first step, its policy, and a batch."""
    torch.manual_seed(0)
    images, labels = (torch.stack(part) for part in zip(*data[:4]))
    learner = Distillation(net(), eyes(2.0), KL, example=images, classes=3)
    (policy,) = build_policies([dict(type="hard", **options)])
    run = PlainRun(learner, [policy], data, 4, 1, 0, 0.0, 255, torch.device("cpu"))
    run.start([None] * 4)  # type: ignore[arg-type]
    return run, policy, [images, labels]


def test_a_change_is_bounded_and_nothing_at_first() -> None:
    torch.manual_seed(0)
    change, images = Change(3, 8, 0.3), torch.randn(2, 3, 8, 8)
    assert torch.equal(change(images), images)
    nn.init.normal_(change.layers[-1].weight, std=100.0)
    moved = (change(images) - images).abs()
    assert 0.29 < moved.max() <= 0.3 + 1e-6


def test_the_departure_is_the_distillation_loss_of_other_images_in_the_place_of_the_batchs() -> None:
    """Both sides are asked about them; its gradient is that of the student."""
    run, _, (images, labels) = run_of(scenes(8, 0))
    run.learner.double().eval()
    own, departs = run.departure([images.double(), labels])
    assert torch.equal(own, images.double())
    at = torch.stack([image for image, _ in scenes(4, 5)]).double().requires_grad_()
    with torch.no_grad():
        told = run.teachers["teacher"](at).softmax(1)
    expected = (told * (told.log() - run.student(at).log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(departs(at), expected)
    slopes = [torch.autograd.grad(each, at)[0] for each in (departs(at), expected)]
    torch.testing.assert_close(*slopes)


def test_the_network_climbs_until_it_is_far_enough_and_rests_until_the_student_is_near() -> None:
    run, policy, batch = run_of(scenes(8, 0), bound=2.0, up=1.5, lr=0.003, steps=1)
    images, departs = run.departure(batch)

    def ratio() -> float:
        with torch.no_grad(), run.aside():
            return (departs(policy.change(images)) / departs(images)).item()

    assert ratio() == 1.0
    found = []
    while policy.climbing and len(found) < 60:
        run.before(0, batch)
        found.append(ratio())
    assert found[-1] > 1.5 > found[-2] > 1.0
    kept = [each.clone() for each in policy.change.parameters()]
    run.before(0, batch)
    assert not policy.climbing
    assert all(torch.equal(one, other) for one, other in zip(kept, policy.change.parameters()))
    for each in policy.change.parameters():  # as if the student were as near as on clean images
        each.data.zero_()
    policy.low = 1.01
    run.before(0, batch)
    assert policy.climbing


def test_student_and_teacher_see_the_same_changed_images_in_training_alone() -> None:
    seen: dict[str, list[Tensor]] = dict(student=[], teacher=[])
    student, teacher = net(), eyes()

    class Look(densekd.policies.Policy):
        """Watch the models while they train, after the policy has looked."""

        name = "look"

        def start(self, run: densekd.policies.Run) -> None:
            def watch(whose: str, learner: nn.Module) -> Any:
                return lambda model, args: seen[whose].append(args[0].clone()) if learner.training else None

            run.student.register_forward_pre_hook(watch("student", run.student))
            run.teachers["teacher"].register_forward_pre_hook(watch("teacher", run.student))

    data = scenes(8, 0)
    policy = dict(type="hard", bound=0.4, lr=0.05, up=100.0, share=0.5)
    trained(student, teacher, data, [policy, Look()], control=False, epochs=3, distills=KL)
    clean = torch.stack([image for image, _ in data])
    assert len(seen["student"]) == 6
    for mine, its in zip(seen["student"], seen["teacher"][-6:], strict=True):  # it was measured before
        assert torch.equal(mine, its)
        nearest = (mine[:, None] - clean[None]).abs().flatten(2).amax(2).amin(1)
        assert (nearest <= 0.4 + 1e-6).all()
    assert (nearest == 0).sum() == 2
    assert (nearest > 0.1).sum() == 2  # the network has moved half of the last batch far


def test_a_student_of_hard_images_is_nearer_to_its_teacher_on_those_it_has_not_seen() -> None:
    """Few clear scenes to learn from; then scenes under noise."""
    teacher, test = eyes(), torch.stack([image for image, _ in scenes(16, 50, noise=0.6)])
    quick: dict[str, Any] = dict(control=False, distills=KL, task_weight=0.0, epochs=40, val=scenes(2, 90, noise=0.1))

    def distance(bound: float, seed: int) -> float:
        data = scenes(8, seed, noise=0.1)
        student = trained(lambda: net(12), teacher, data, [dict(type="hard", bound=bound)], seed=seed, **quick).student
        with torch.no_grad():
            told, said = teacher(test).log_softmax(1), student.eval()(test).log_softmax(1)
        return (told.exp() * (told - said)).sum(1).mean().item()

    plain, hard = (sum(distance(bound, seed) for seed in range(2)) / 2 for bound in (0.0, 0.6))
    assert hard < 0.9 * plain


def test_a_loss_below_0_is_climbed_too() -> None:
    run, policy, batch = run_of(scenes(8, 0), bound=2.0, up=1.5, lr=0.003, steps=1)
    images, departs = run.departure(batch)
    run.departure = lambda batch: (images, lambda others: departs(others) - 10)  # type: ignore[method-assign]
    run.before(0, batch)
    assert policy.climbing
    assert policy.change.layers[-1].weight.abs().sum() > 0


def test_entries_that_are_off_or_count_epochs_are_asked_as_in_the_training() -> None:
    """There is nothing to climb before an entry begins."""
    heard: list[Any] = []

    def counts(student: Tensor, teacher: Tensor, epoch: int) -> Tensor:
        heard.append((torch.is_grad_enabled(), epoch))
        return (student - teacher).square().mean()

    late = dict(type="stages", losses=[(0.5, None), (1.0, counts)])
    found = trained(net, eyes(), scenes(8, 0), ["hard"], distills=[dict(KL[0], loss=late)], control=False, epochs=4)
    assert {epoch for _, epoch in heard} == {2, 3}
    (policy,) = found.outcomes["student"].policies
    assert policy.change.layers[-1].weight.abs().sum() > 0


def test_without_a_bound_nothing_is_changed() -> None:
    data = scenes(8, 0)
    with_it, without = (
        trained(net, eyes(), data, policies, control=False, seed=1).student
        for policies in ([dict(type="hard", bound=0.0)], [])
    )
    assert all(torch.equal(one, other) for one, other in zip(with_it.parameters(), without.parameters()))


def test_what_does_not_fit_is_said() -> None:
    data = scenes(4, 0)
    for wrong in (dict(low=3.0), dict(low=0.0), dict(bound=-1.0), dict(steps=0), dict(lr=0.0), dict(share=0.0)):
        with pytest.raises(ValueError, match="hard"):
            trained(net, eyes(), data, [dict(type="hard", **wrong)])
    with pytest.raises(ValueError, match="policy 'hard' needs a teacher"):
        trained(net, None, data, ["hard"])
    rows = [(torch.randn(5), label) for label in torch.arange(3)]
    student, teacher = (nn.Sequential(nn.Linear(5, 3)) for _ in range(2))
    with pytest.raises(TypeError, match=r"changes images \(N, C, H, W\)"):
        trained(student, teacher, rows, ["hard"], val=rows, distills=[dict(loss="kl", student="0")])

    class Clips(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(2)

    clips = [(image[:, None].repeat(1, 2, 1, 1), label) for image, label in data]
    student, teacher = (Clips(nn.Conv3d(3, 3, 1)) for _ in range(2))
    with pytest.raises(TypeError, match=r"changes images \(N, C, H, W\)"):
        trained(student, teacher, clips, ["hard"], val=clips, distills=[dict(loss="kl", student="0")])
