"""Teachers that are masked inside for the student."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import densekd
from densekd.plain.distillation import Distillation
from densekd.plain.given import Given
from densekd.plain.running import PlainRun
from densekd.policies import build_policies

from .small import Pair, eyes, net, scenes, trained

INNER = dict(type="kl", tau=4.0)
ENTRY = dict(
    loss=dict(type="mst_distill", teachers=2, mask=0.0),
    student="head",
    source=["one", "other"],
    class_weight=[0.2, 1, 1],
)


def run_of(data: list[Pair], **options: Any) -> tuple[PlainRun, Any, list[Tensor]]:
    """A run of two teachers before its first step, its policy, and a batch."""
    torch.manual_seed(0)
    images, labels = (torch.stack(part) for part in zip(*data[:4]))
    learner = Distillation(net(), dict(one=net(6), other=net(5)), [ENTRY], example=images, classes=3)
    (policy,) = build_policies([dict(type="mst_distill", **options)])
    run = PlainRun(learner, [policy], data, 4, 1, 0, 0.0, 255, torch.device("cpu"))
    run.start([None] * 10)  # type: ignore[arg-type]
    return run, policy, [images, labels]


def test_each_teacher_is_masked_at_its_stage_as_by_hand() -> None:
    run, policy, (images, _) = run_of(scenes(4, 0), stage="body")
    for name, teacher in run.teachers.items():
        policy.on = False
        with torch.no_grad():
            h = teacher.body(images)
            policy.on = True
            mask = policy.masks[name]
            share = torch.sigmoid(mask[2](torch.relu(mask[0](h))))
            assert share.min() > 0.9  # nearly all goes through at first
            torch.testing.assert_close(teacher(images), teacher.head(share * h))
            torch.testing.assert_close(policy.apart[name], (share * h - h).square().sum() / h.square().sum())
    policy.leave(run)
    with torch.no_grad():
        torch.testing.assert_close(
            run.teachers["one"](images), run.teachers["one"].head(run.teachers["one"].body(images))
        )


def test_masks_step_down_their_own_loss_and_move_nothing_else() -> None:
    """Against the loss by hand and its gradient, for teachers that the student cannot follow."""
    run, policy, batch = run_of(scenes(4, 0), rebuild=0.5, lr=0.05)
    images, labels = batch
    before = {name: each.clone() for name, each in run.learner.state_dict().items()}
    count = torch.tensor([0.2, 1, 1])[labels]

    def by_hand() -> Tensor:
        total = torch.zeros(())
        with torch.no_grad():
            said = (run.student.eval()(images) / 4).log_softmax(1).exp()
        run.student.train()
        for name, teacher in run.teachers.items():
            h, mask = teacher.body(images), policy.masks[name]
            masked = torch.sigmoid(mask[2](torch.relu(mask[0](h)))) * h
            policy.on = False
            z = (teacher.head(masked) / 4).log_softmax(1)
            policy.on = True
            each = 16 * (said * (said.log() - z)).sum(1)
            total = total + (each * count).sum() / count.sum() + 0.5 * (masked - h).square().sum() / h.square().sum()
        return total / 2

    policy.on = False
    weights = list(policy.masks.parameters())
    expected = torch.autograd.grad(by_hand(), weights)
    run.before(0, batch)
    for each, slope in zip(weights, expected, strict=True):
        torch.testing.assert_close(each.grad, slope)
    first = by_hand().item()
    for _ in range(20):
        run.before(0, batch)
    assert by_hand().item() < first
    assert all(torch.equal(value, before[name]) for name, value in run.learner.state_dict().items())


def test_the_student_hears_the_masked_teachers_from_a_point_on() -> None:
    run, policy, batch = run_of(scenes(4, 0), start=0.5)
    heard = []
    for step in (0, 4, 5, 9):
        run.before(step, batch)
        with torch.no_grad():
            found = run.teachers["one"](batch[0])
            policy.on = False
            heard.append(torch.equal(found, run.teachers["one"](batch[0])))
    assert heard == [True, True, False, False]


def test_what_the_student_cannot_follow_is_left_out_of_a_teacher() -> None:
    """A student that sees no colour; a teacher of colour and light: its masked features tell it light alone."""

    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(1, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x[:, :1])

    student = Grey()
    teachers = dict(one=eyes(), other=eyes())
    data = scenes(16, 0, noise=0.1)
    options: dict[str, Any] = dict(distills=[{**ENTRY, "class_weight": None}], control=False, epochs=8, task_weight=0.0)
    images = torch.stack([image for image, _ in data])
    apart = {}
    for name, policies in (("masked", [dict(type="mst_distill", rebuild=0.05, start=0.0)]), ("plain", [])):
        told: list[Tensor] = []

        class Look(densekd.policies.Policy):
            """What the teacher says in the last step."""

            name = "look"

            def step(self, run: densekd.policies.Run, batch: Any) -> None:
                if run.step == run.steps - 1:
                    with torch.no_grad(), run.aside():
                        told.append(run.teachers["one"](images).log_softmax(1))  # noqa: B023
                        told.append(run.student(images).log_softmax(1))  # noqa: B023

        trained(student, teachers, data, [*policies, Look()], **options)
        its, mine = told
        apart[name] = (its.exp() * (its - mine)).sum(1).mean().item()
    assert apart["masked"] < 0.5 * apart["plain"]


def test_a_users_teacher_is_left_as_it_was() -> None:
    teachers = dict(one=net(6), other=net(5))
    options: dict[str, Any] = dict(distills=[ENTRY], control=False, epochs=1)
    masked, plain = (
        trained(net, teachers, scenes(4, 0), policies, **options).metrics for policies in (["mst_distill"], [])
    )
    assert masked["teacher one"] == plain["teacher one"]  # it is measured without a mask
    broken = [dict(type="mst_distill", stage=["body", "gone"])], ["mst_distill", dict(type="m2m", teacher="gone")]
    for policies in broken:
        with pytest.raises((KeyError, ValueError), match="gone"):
            trained(net, teachers, scenes(4, 0), policies, **options)
    assert not any(
        part._forward_hooks or part._forward_pre_hooks for each in teachers.values() for part in each.modules()
    )


def test_positions_count_as_in_the_entry() -> None:
    run, policy, (_, labels) = run_of(scenes(4, 0))
    labels[:, :5] = 255
    given = Given(dict(labels=labels), (16, 16))
    found, expected = run.weight(policy.term, labels), given.by_class(policy.term.by_class, (16, 16))
    assert found is not None
    assert torch.equal(found, expected)
    assert found[:, :5].unique().numel() == 1
    assert found[0, 0, 0] == pytest.approx(found[:, 5:].mean().item())


def test_what_does_not_fit_is_said() -> None:
    data, teachers = scenes(4, 0), dict(one=net(6), other=net(5))
    quick: dict[str, Any] = dict(control=False, distills=[ENTRY])
    for wrong in (dict(lr=0.0), dict(start=2.0), dict(rebuild=-1.0)):
        with pytest.raises(ValueError, match="policy 'mst_distill'"):
            trained(net, teachers, data, [dict(type="mst_distill", **wrong)], **quick)
    with pytest.raises(ValueError, match="whose own masks are off; there are 1"):
        trained(
            net, teachers, data, ["mst_distill"], distills=[{**ENTRY, "loss": dict(type="mst_distill", teachers=2)}]
        )
    with pytest.raises(ValueError, match="there are 0"):
        trained(net, eyes(), data, ["mst_distill"])
    with pytest.raises(KeyError, match="no module 'bodi'; nearest: body"):
        trained(net, teachers, data, [dict(type="mst_distill", stage="bodi")], **quick)
    with pytest.raises(ValueError, match="2 teachers, but 1 stages"):
        trained(net, teachers, data, [dict(type="mst_distill", stage=["body"])], **quick)
    for stage in ("body:0", "body:7"):
        with pytest.raises(TypeError, match=f"stage '{stage}' is an item of a Tensor"):
            trained(net, teachers, data, [dict(type="mst_distill", stage=stage)], **quick)
    with pytest.raises(TypeError, match="stage is a tap, or a list with one for each teacher, got 5"):
        trained(net, teachers, data, [dict(type="mst_distill", stage=5)], **quick)
    for its, sources in ((eyes(), None), (dict(one=net(6)), ["truth", "one"])):
        loss = dict(type="mst_distill", teachers=len(sources or [1]), mask=0.0)
        with pytest.raises(ValueError, match="masks several teachers: source= names them"):
            trained(
                net, its, data, ["mst_distill"], control=False, distills=[{**ENTRY, "source": sources, "loss": loss}]
            )
