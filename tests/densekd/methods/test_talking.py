"""What two segmenters make of the messages of each other."""

from __future__ import annotations

import pytest
import torch
from contract.entry import MethodContract
from torch import nn

import kdlosses
from densekd import Distillation

from ..policies.small import net

CONTRACT = MethodContract("talking", no_fixed_point={"talking": "codes that are still to be learned stand between"})
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def learner() -> Distillation:
    torch.manual_seed(0)
    options = dict(type="talking", interaction=2.0, consistency=0.5, messages=6)
    return Distillation(net(4), net(8), method=options, example=IMAGES).eval()


def test_each_classifier_answers_the_messages_of_the_other() -> None:
    model = learner()
    teacher, student = model.teachers["teacher"].model, model.student
    mine, its = student.body(IMAGES), teacher.body(IMAGES)
    talk = model.connectors["talking"].loss.loss.talk
    said = teacher.head(its)
    heard = student.head(talk.student_decoder(talk.teacher_encoder(its)))
    answer = teacher.head(talk.teacher_decoder(talk.student_encoder(mine)))
    expected = 2 * (kdlosses.kl(heard, said) + (answer - said).square().mean()) + 0.5 * talk(mine, its)
    found = model(IMAGES)[1]["talking"]
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(each.grad.abs().sum() > 0 for each in talk.parameters())
    assert student.head.weight.grad.abs().sum() > 0
    assert student.body[0].weight.grad.abs().sum() > 0
    assert all(each.grad is None for each in teacher.parameters())


def test_positions_of_no_weight_are_as_if_cut_off() -> None:
    talk = learner().connectors["talking"].loss
    student, teacher = torch.rand(2, 4, 6, 5), torch.rand(2, 8, 6, 5)
    weight = torch.ones(2, 6, 5)
    weight[:, 4:] = 0
    torch.testing.assert_close(talk(student, teacher, weight=weight), talk(student[:, :, :4], teacher[:, :, :4]))


def test_the_classifiers_are_parts_of_their_networks_alone() -> None:
    model = learner()
    names = [name for name in model.state_dict() if not name.startswith("student.")]
    assert names
    assert all(name.startswith("connectors.talking.loss.loss.talk.") for name in names)
    with torch.no_grad():
        before = model(IMAGES)[1]["talking"]
        model.teachers["teacher"].model.head.bias += torch.tensor([5.0, 0.0, 0.0])
        assert abs(model(IMAGES)[1]["talking"] - before) > 0.1  # it is asked, and not copied


def test_a_network_that_ends_in_no_layer_is_named() -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Identity()

    student = net(4)
    student.default_taps = {"logits": "head", "features": "body"}  # type: ignore[assignment]
    student.head = Ends()
    with pytest.raises(ValueError, match="method 'talking': 'head' of the student is a Ends"):
        Distillation(student, net(8), method="talking", example=IMAGES)
