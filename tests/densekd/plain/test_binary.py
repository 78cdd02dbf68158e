"""Plain models whose head has one sigmoid: every loss over classes, every kind of head, and training."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract, entry_of
from torch import Tensor, nn

import kdlosses
from densekd import Distillation, fit
from densekd.context import classes_of
from densekd.plain.given import Given
from densekd.plain.scores import confusion, logits_of, task_loss
from densekd.term import Term

from ..test_binary_heads import LOSSES, both

DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.rand(4, 3, 16, 16, generator=DRAW)
MAPS = torch.randint(2, (4, 16, 16), generator=DRAW)
MAPS[:, 2:9] = 0  # a region of its own, so that there are edges and bodies
MAPS[:, :2] = 255


def net(channels: int = 1, width: int = 4, head: str = "head") -> nn.Sequential:
    body, last = nn.Conv2d(3, width, 3, stride=2, padding=1), nn.Conv2d(width, channels, 1)
    return nn.Sequential(OrderedDict([("body", body), ("relu", nn.ReLU()), (head, last)]))


def pair(mine: int = 1, its: int = 1, head: str = "head") -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    return net(mine, head=head), net(its, width=6, head=head)


@pytest.mark.parametrize("head", ["head", "out"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_over_classes_is_that_of_two_classes(name: str, head: str) -> None:
    """A head is known by its name, or by the number of classes that the caller gives."""
    student, teacher = pair(head=head)
    known = entry_of(LossContract, name)
    spec = {"type": name, **{**known.options, **known.two_classes}}
    classes = {} if head == "head" else {"classes": 2}
    entries = [{"loss": spec, "student": head}]
    model = Distillation(student, teacher, entries, example=IMAGES, **classes).eval()
    context = dict(labels=MAPS, progress=0.5, epoch=1)
    _, losses = model(IMAGES, context=context)
    reference = kdlosses.build(spec, student_channels=2, teacher_channels=2, channels=2, classes=2).eval()
    reference.load_state_dict(model.connectors[name].loss.state_dict())
    given = {"label_map": MAPS, "labels": MAPS[:, ::2, ::2], "progress": 0.5, "epoch": 1}
    with torch.no_grad():
        s, t = both(student(IMAGES)), both(teacher(IMAGES))
        expected = reference(s, t, **{key: each for key, each in given.items() if key in reference.needs})
    torch.testing.assert_close(losses[name].detach(), expected)
    (gradient,) = torch.autograd.grad(losses[name], student[2].weight)
    assert gradient.abs().sum() > 1e-6


@pytest.mark.parametrize(("mine", "its"), [(1, 1), (1, 2), (2, 1)])
def test_either_side_may_have_two_channels(mine: int, its: int) -> None:
    student, teacher = pair(mine, its)
    _, losses = Distillation(student, teacher, [dict(loss="kl", student="head")], example=IMAGES)(IMAGES)
    q, p = (
        z.double().sigmoid() if z.shape[1] == 1 else (z[:, 1:] - z[:, :1]).double().sigmoid()
        for z in (student(IMAGES), teacher(IMAGES))
    )
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(losses["kl"].double(), expected, rtol=1e-4, atol=1e-8)
    towards = torch.autograd.grad(losses["kl"], student[2].bias)[0]
    step = towards.sum() if mine == 1 else towards[1]  # of the logit of class 1
    assert step.item() == pytest.approx((q - p).mean().item(), rel=1e-3)  # towards the teacher's probability


def test_a_label_that_does_not_count_has_no_say() -> None:
    student, teacher = pair()
    entries = [dict(loss="kl", student="head", where="labelled")]
    model = Distillation(student, teacher, entries, example=IMAGES)
    labels = MAPS[:, ::2, ::2].clone()
    value = model(IMAGES, context=dict(labels=labels))[1]["kl"]
    counted = labels != 255
    s, t = both(student(IMAGES)).log_softmax(1), both(teacher(IMAGES)).log_softmax(1)
    each = (t.exp() * (t - s)).sum(1)
    torch.testing.assert_close(value, each[counted].mean())
    with pytest.raises(ValueError, match="student has 2 classes, the teacher 5"):
        Distillation(net(1), net(5), entries, example=IMAGES)
    with pytest.raises(ValueError, match=r"single channel that is no sigmoid.*classes=2"):
        Distillation(*pair(head="out"), [dict(loss="kl", student="out")], example=IMAGES)


def test_heads_of_libraries() -> None:
    from .test_families import Smp, Torchvision

    def single(model: Any) -> Any:
        for parent in model.modules():
            for name, part in parent.named_children():
                if isinstance(part, nn.Conv2d) and part.out_channels == 5:
                    setattr(parent, name, nn.Conv2d(part.in_channels, 1, part.kernel_size, padding=part.padding))
        return model

    for kind in (Smp, Torchvision):
        model = single(kind())
        assert classes_of(model)[0] == 2
        distillation = Distillation(model, single(kind()), method="kl", example=IMAGES)
        _, losses = distillation(IMAGES)
        assert losses["kl"] > 0


def test_the_output_of_a_whole_model() -> None:
    student, teacher = pair()
    _, losses = Distillation(student, teacher, [dict(loss="kl", student=":")], example=IMAGES)(IMAGES)
    torch.testing.assert_close(losses["kl"], kdlosses.kl(both(student(IMAGES)), both(teacher(IMAGES))))


def test_an_image_classifier() -> None:
    def classifier(width: int) -> nn.Module:
        layers = [nn.Flatten(), nn.Linear(3 * 16 * 16, width), nn.ReLU()]
        return nn.Sequential(OrderedDict(body=nn.Sequential(*layers), fc=nn.Linear(width, 1)))

    student, teacher = classifier(4), classifier(8)
    model = Distillation(student, teacher, [dict(loss="dkd", student="fc")], example=IMAGES)
    labels = torch.tensor([0, 1, 1, 0])
    value = model(IMAGES, context=dict(labels=labels))[1]["dkd"]
    torch.testing.assert_close(value, kdlosses.dkd(both(student(IMAGES)), both(teacher(IMAGES)), labels))


def test_the_loss_on_labels_is_binary_cross_entropy() -> None:
    z = torch.randn(2, 1, 4, 4, generator=DRAW)
    labels = torch.randint(2, (2, 4, 4), generator=DRAW)
    labels[0, 0] = 255
    counted = labels != 255
    expected = F.binary_cross_entropy_with_logits(z[:, 0][counted], labels[counted].float())
    torch.testing.assert_close(task_loss(z, labels), expected)
    answers = (z[:, 0] > 0).long()
    assert confusion(logits_of(z), labels).diagonal().sum() == (answers == labels)[counted].sum()


def test_fit_teaches_a_student_with_one_sigmoid() -> None:
    """Pixels brighter than half in a noisy image: the teacher knows, the student learns it."""
    noise = torch.Generator().manual_seed(1)

    def scenes(count: int) -> list[tuple[Tensor, Tensor]]:
        clean = (torch.rand(count, 1, 4, 4, generator=noise) > 0.5).float().repeat_interleave(2, 2)
        clean = clean.repeat_interleave(2, 3)
        images = clean.expand(-1, 3, -1, -1) + 0.3 * torch.randn(count, 3, 8, 8, generator=noise)
        return list(zip(images, clean[:, 0].long()))

    def student() -> nn.Module:
        return nn.Sequential(OrderedDict(body=nn.Conv2d(3, 4, 3, padding=1), relu=nn.ReLU(), head=nn.Conv2d(4, 1, 1)))

    train, val = scenes(32), scenes(8)
    options = dict(train=train, val=val, epochs=6, lr=0.03, device="cpu", log=str)
    teacher = fit(student, **options).student
    result = fit(student, teacher, method="kl", control=False, **options)
    assert result.metrics["teacher"]["val mIoU"] > 0.8
    assert result.metrics["student"]["val mIoU"] > 0.8


def test_fit_takes_a_single_channel_for_two_classes_whatever_the_head_is_called() -> None:
    data = [(image, labels) for image, labels in zip(IMAGES, MAPS)]
    student, teacher = pair(head="out")
    options = dict(train=data, val=data, epochs=1, device="cpu", log=str)
    result = fit(student, teacher, distills=[dict(loss="kl", student="out")], **options)
    assert {*result.metrics} == {"teacher", "control", "student"}


def test_the_positions_of_a_batch_without_labels_are_where_the_student_is() -> None:
    """On the device that has no numbers, as a stand-in for a GPU."""
    term = Term("kl", "head", where="unlabelled_images")
    found = Given({}, (8, 8)).gather(["weight"], (4, 4), term.where, 2)
    assert term._for_each_class(found, torch.zeros(2, 3, 4, 4, device="meta"))["weight"].device.type == "meta"
