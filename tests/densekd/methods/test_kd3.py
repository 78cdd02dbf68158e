"""A student that ends in its teacher's classifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import densekd
import kdlosses
from densekd import Distillation
from kdlosses.outputs import with_output

from ..policies.small import net, scenes

DATA = scenes(8, 0)


def student(wide: int = 8) -> Any:
    return with_output(net(4), "head", dict(type="shared", wide=wide))


def test_the_student_keeps_the_teachers_classifier_and_learns_its_features() -> None:
    torch.manual_seed(1)
    teacher = net(8)
    before = student()
    options: dict[str, Any] = dict(train=DATA, val=DATA, epochs=2, batch_size=4, device="cpu", log=str, lr=0.01)
    found = densekd.fit(before, teacher, method="kd3", policies=["share_classifier"], **options)
    head = found.student.head
    assert torch.equal(head.classifier.weight, teacher.head.weight)
    assert torch.equal(head.classifier.bias, teacher.head.bias)
    assert not torch.equal(head.layer.weight, before.head.layer.weight)
    control = found.outcomes["control"].model.head
    assert not torch.equal(control.classifier.weight, before.head.classifier.weight)  # its own, which learns


def test_features_before_the_shared_classifier_count_where_both_are_sure() -> None:
    torch.manual_seed(0)
    images = torch.stack([image for image, _ in DATA[:2]])
    model = Distillation(student(), net(8), method=dict(type="kd3", kappa=0.4, feature=3.0), example=images).eval()
    teacher, mine = model.teachers["teacher"].model, model.student
    z, its = mine(images), teacher(images)
    sure = (0.5 * (z.softmax(1) + its.softmax(1))).amax(1)
    sure = torch.where(sure < 0.4, 0, sure).detach()
    assert 0 < (sure > 0).float().mean() < 1
    losses = model(images)[1]
    error = (mine.head.layer(mine.body(images)) - teacher.body(images)).square().mean(1)
    torch.testing.assert_close(losses["confident_feature"], 3 * (error * sure).sum() / sure.sum())
    torch.testing.assert_close(losses["confident"], kdlosses.kl(z, its, weight=sure))


def test_what_cannot_be_shared_is_named() -> None:
    options: dict[str, Any] = dict(train=DATA, val=DATA, epochs=1, device="cpu", log=str, policies=["share_classifier"])
    with pytest.raises(ValueError, match="the output be made with wide=8"):
        densekd.fit(student(5), net(8), method="kd3", **options)
    with pytest.raises(ValueError, match="policy 'share_classifier' needs a student whose last layer 'head' is 'share"):
        densekd.fit(net(4), net(8), method="kl", **options)
