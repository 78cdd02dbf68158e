"""Heads between a middle layer of a plain student and a loss, and output layers that stay in it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from densekd import Distillation
from kdlosses.outputs import with_output

IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(5, (2, 16, 24), generator=torch.Generator().manual_seed(1))
LABELS[:, :2] = 255


class Net(nn.Module):
    """Two stages and a head."""

    def __init__(self, width: int = 4, classes: int = 5) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
        self.head = nn.Conv2d(2 * width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.two(self.one(image)))


def learner(*entries: dict[str, Any], student: nn.Module | None = None, teacher: Any = None) -> Distillation:
    torch.manual_seed(0)
    return Distillation(student or Net(), teacher or Net(8), list(entries), example=IMAGES)


def branch(**more: Any) -> dict[str, Any]:
    return dict(loss="kl", student="one", teacher="head", head="linear", **more)


def at_size(logits: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(logits, like.shape[2:], mode="bilinear", align_corners=False)


def test_the_loss_is_that_of_the_logits_of_the_head() -> None:
    model = learner(branch(weight=2.0))
    its = model.teachers["teacher"].model(IMAGES)
    logits = model.connectors["kl"].heads[0](model.student.one(IMAGES))
    expected = 2 * kdlosses.kl(at_size(logits, its), its)
    torch.testing.assert_close(model(IMAGES)[1]["kl"], expected)


def test_it_learns_beside_the_student_and_stays_out_of_it() -> None:
    model, plain = learner(branch()), Net()
    assert list(model.student.state_dict()) == list(plain.state_dict())
    own = [name for name, _ in model.named_parameters() if not name.startswith("student.")]
    assert own == ["connectors.kl.heads.0.weight", "connectors.kl.heads.0.bias"]
    model(IMAGES)[1]["kl"].backward()
    assert model.student.one[0].weight.grad.abs().sum() > 0
    assert model.connectors["kl"].heads[0].weight.grad.abs().sum() > 0
    assert model.student.two[0].weight.grad is None  # only what is below the head
    again = learner(branch())
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(IMAGES)[1]["kl"], model(IMAGES)[1]["kl"])


def test_each_level_has_a_head_and_one_map_of_the_teacher_serves_all() -> None:
    entry = dict(loss="kl", student="one+two", teacher="head", head="linear")
    model = learner(entry)
    its = model.teachers["teacher"].model(IMAGES)
    one, two = model.connectors["kl"].heads
    first, second = one(model.student.one(IMAGES)), two(model.student.two(model.student.one(IMAGES)))
    expected = kdlosses.kl(at_size(first, its), its) + kdlosses.kl(second, its)
    torch.testing.assert_close(model(IMAGES)[1]["kl"], expected)
    with pytest.raises(ValueError, match="the tap of the head yields 3 tensors, the other side 2"):
        learner(dict(loss="kl", student="one+two+two", teacher="head+head", head="linear"))


def test_the_loss_of_the_head_on_labels_counts_those_that_there_are() -> None:
    model = learner(branch(weight=3.0))
    plain = learner({**branch(weight=3.0), "head": dict(type="linear", label_loss=0.5)})
    plain.load_state_dict(model.state_dict())
    more = plain(IMAGES, context=dict(labels=LABELS))[1]["kl"] - model(IMAGES, context=dict(labels=LABELS))[1]["kl"]
    its = model.teachers["teacher"].model(IMAGES)
    logits = at_size(model.connectors["kl"].heads[0](model.student.one(IMAGES)), its)
    labels = LABELS[:, ::4, ::4]
    torch.testing.assert_close(more, 1.5 * F.cross_entropy(logits, labels, ignore_index=255), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="label_loss of its head requires the class of each position"):
        plain(IMAGES)


def test_one_sigmoid_of_the_teacher_is_two_classes_of_the_head() -> None:
    torch.manual_seed(0)
    model = learner(branch(), student=Net(classes=1), teacher=Net(8, classes=1))
    its = model.teachers["teacher"].model(IMAGES)
    logits = at_size(model.connectors["kl"].heads[0](model.student.one(IMAGES)), its)
    assert logits.shape[1] == 2
    expected = kdlosses.kl(logits, torch.cat([torch.zeros_like(its), its], 1))
    torch.testing.assert_close(model(IMAGES)[1]["kl"], expected)


def test_the_classes_of_the_teacher_may_be_mapped() -> None:
    model = learner(branch(class_map=[4, 0]))
    its = model.teachers["teacher"].model(IMAGES)[:, [4, 0]]
    logits = at_size(model.connectors["kl"].heads[0](model.student.one(IMAGES)), its)
    torch.testing.assert_close(model(IMAGES)[1]["kl"], kdlosses.kl(logits, its))


def test_half_precision() -> None:
    model = learner({**branch(), "head": "branch"})
    with torch.autocast("cpu", torch.bfloat16):
        value = model(IMAGES)[1]["kl"]
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, model(IMAGES)[1]["kl"], rtol=0.05, atol=0.01)


def test_the_gradient_of_a_head_can_be_measured() -> None:
    model = learner(branch(weight="auto"))
    losses = model(IMAGES, task=lambda output: output.square().mean())[1]
    assert losses["kl"].isfinite()
    assert model.connectors["kl"].auto.weight > 0


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (dict(student="one", head="liner"), KeyError, "entry 'kl': no head is called 'liner'; did you mean 'linear'"),
        (dict(student="one", head="linear", teacher=None), ValueError, "a head needs teacher=..., the tap"),
        (dict(student="head", head="linear"), ValueError, "its head stands on a middle layer, but the tap 'head'"),
        (dict(student="one", head="linear", adapt="conv1x1"), ValueError, "which adapt='conv1x1' would mix"),
        (dict(student="one", haed="linear"), TypeError, "did you mean 'head'"),
    ],
)
def test_what_cannot_be_meant_is_refused(entry: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learner({"loss": "kl", "teacher": "head", **entry})


def test_logits_are_no_middle_layer_for_a_weak_head() -> None:
    with pytest.raises(ValueError, match="loss 'uskd' stands on a middle layer, but the tap 'head' yields the logits"):
        learner(dict(loss="uskd", student="head", teacher="head"))
    model = learner(dict(loss="uskd", student="two", teacher="two"))
    assert model(IMAGES, context=dict(labels=LABELS))[1]["uskd"] > 0


def test_two_heads_learn_apart_and_predict_together() -> None:
    """Labels reach the first head alone, the teacher the second; what predicts is their mixture."""
    torch.manual_seed(0)
    student = with_output(Net(), "head", dict(type="two_heads", share=0.25))
    plain = copy.deepcopy(student)
    model = learner(dict(loss="kl", student="head.second", teacher="head"), student=student)
    output, losses = model(IMAGES)
    F.cross_entropy(output, LABELS[:, ::4, ::4], ignore_index=255).backward(retain_graph=True)
    assert student.head.second.weight.grad is None
    student.zero_grad()
    losses["kl"].backward()
    assert student.head.layer.weight.grad is None
    assert student.head.second.weight.grad.abs().sum() > 0
    assert student.two[0].weight.grad.abs().sum() > 0
    plain.load_state_dict(student.state_dict())
    feature = plain.two(plain.one(IMAGES))
    mixed = 0.25 * plain.head.layer(feature).softmax(1) + 0.75 * (plain.head.second(feature) / 0.5).softmax(1)
    torch.testing.assert_close(plain.eval()(IMAGES).exp(), mixed)


def test_the_second_head_may_be_of_one_sigmoid() -> None:
    torch.manual_seed(0)
    student = with_output(Net(classes=1), "head", "two_heads")
    model = learner(dict(loss="kl", student="head.second", teacher="head"), student=student, teacher=Net(8, classes=1))
    z, t = student.head.second(student.two(student.one(IMAGES))), model.teachers["teacher"].model(IMAGES)
    both = [torch.cat([torch.zeros_like(each), each], 1) for each in (z, t)]
    torch.testing.assert_close(model(IMAGES)[1]["kl"], kdlosses.kl(*both))


def test_subclasses_learn_what_the_logits_of_a_teacher_do_not_show() -> None:
    """The teacher's classes tell of the first channel alone; the student's subclasses come to tell of the others."""
    torch.manual_seed(0)
    images = torch.randn(8, 3, 8, 8)
    teacher, student = (
        nn.Sequential(OrderedDict(body=body, head=nn.Conv2d(width, 2, 1, bias=False)))
        for body, width in ((nn.Identity(), 3), (nn.Conv2d(3, 8, 1), 8))
    )
    teacher.head.weight.data = torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]])[..., None, None]
    with_output(student, "head", dict(type="subclasses", count=2))
    entry = dict(loss=dict(type="lelp", subclass_tau=0.2), student="head.layer", teacher="body")
    model = learner(entry, student=student, teacher=teacher)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        model(images)[1]["lelp"].backward()
        optimiser.step()
    assert ((student(images).argmax(1) == 0) == (images[:, 0] > 0)).float().mean() > 0.97
    which, others = student.head.layer(student.body(images)).argmax(1), images[:, 1:].movedim(1, -1)
    for first in (0, 2):  # of the two subclasses of a class
        apart = others[which == first].mean(0) - others[which == first + 1].mean(0)
        assert apart.norm() > 0.8
