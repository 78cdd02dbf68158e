"""A head with one sigmoid is one of two classes, for every loss that compares classes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract, entry_of
from mmengine.config import Config
from torch import Tensor, nn

import densekd.losses  # noqa: F401  registers the losses that need maps
import kdlosses
from densekd import Distiller
from densekd.methods import METHODS, name_of
from densekd.mmlab.building import build_model
from densekd.taps.defaults import sigmoid_logits
from densekd.taps.reader import Taps

from .conftest import TinySegmenter, det_batch, seg_batch

TAP = "decode_head.conv_seg"
LOSSES = sorted(
    name
    for name, loss in list(kdlosses.LOSSES.items())
    if loss.ground.over_classes and not entry_of(LossContract, name).no_two_classes
)


def pair(mine: int = 1, its: int = 1) -> tuple[TinySegmenter, TinySegmenter]:
    torch.manual_seed(0)
    return TinySegmenter(channels=mine).eval(), TinySegmenter(width=6, channels=its).eval()


def batch(model: nn.Module) -> dict[str, Any]:
    found = seg_batch(model, size=16)
    for sample in found["data_samples"]:
        labels = sample.gt_sem_seg.data
        labels[labels != 255] %= 2
        labels[:, :2] = 255
        labels[:, 2:9] = 0  # a region of its own, so that there are edges and bodies
    return found


def logits(model: nn.Module, found: dict[str, Any]) -> Tensor:
    with Taps(model, [TAP]) as taps:
        model(found["inputs"], mode="tensor")
    return taps[TAP][0]


def both(z: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(z), z], 1) if z.shape[1] == 1 else z


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_over_classes_is_that_of_two_classes(name: str, at: Any) -> None:
    at(0.5)
    student, teacher = pair()
    known = entry_of(LossContract, name)
    spec = {"type": name, **{**known.options, **known.two_classes}}
    model = Distiller(student=student, teacher=teacher, distills=[{"loss": spec, "student": TAP}]).eval()
    found = batch(model)
    value = model(**found, mode="loss")[f"distill.loss_{name}"]
    reference = kdlosses.build(spec, student_channels=2, teacher_channels=2, channels=2, classes=2).eval()
    reference.load_state_dict(model.distill[name].loss.state_dict())
    maps = torch.cat([sample.gt_sem_seg.data for sample in found["data_samples"]])
    s, t = both(logits(student, found)), both(logits(teacher, found))
    known = {"label_map": maps, "progress": 0.5}
    known["labels"] = maps[:, :: 16 // s.shape[2], :: 16 // s.shape[3]]
    expected = reference(s, t, **{key: each for key, each in known.items() if key in reference.needs})
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, model.decode_head.conv_seg.weight)
    assert gradient.abs().sum() > 1e-6


@pytest.mark.parametrize(("mine", "its"), [(1, 1), (1, 2), (2, 1)])
def test_kl_of_a_sigmoid_by_its_formula(mine: int, its: int) -> None:
    student, teacher = pair(mine, its)
    model = Distiller(student=student, teacher=teacher, distills=[{"loss": "kl", "student": TAP}]).eval()
    found = batch(model)
    value = model(**found, mode="loss")["distill.loss_kl"]
    q, p = (
        z.sigmoid() if z.shape[1] == 1 else (z[:, 1:] - z[:, :1]).sigmoid()
        for z in (logits(student, found).double(), logits(teacher, found).double())
    )
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-8)


def test_the_map_of_classes_may_swap_the_two() -> None:
    student, teacher = pair()
    entries = [
        {"loss": "kl", "student": TAP, "class_map": order, "name": f"kl{order[0]}"} for order in ([0, 1], [1, 0])
    ]
    model = Distiller(student=student, teacher=teacher, distills=entries).eval()
    found = batch(model)
    losses = model(**found, mode="loss")
    q, p = logits(student, found), logits(teacher, found)
    torch.testing.assert_close(losses["distill.loss_kl0"], kdlosses.kl(both(q), both(p)))
    torch.testing.assert_close(losses["distill.loss_kl1"], kdlosses.kl(both(q), both(-p)))


def test_several_teachers_with_a_sigmoid_and_with_a_softmax() -> None:
    student, one = pair()
    other = TinySegmenter(channels=2).eval()
    entry = {"loss": "meal", "student": TAP, "source": ["one", "other"]}
    model = Distiller(student=student, teacher={"one": one, "other": other}, distills=[entry]).eval()
    found = batch(model)
    value = model(**found, mode="loss")["distill.loss_meal"]
    target = (both(logits(one, found)).softmax(1) + logits(other, found).softmax(1)) / 2
    expected = -(target * both(logits(student, found)).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(value, expected)


def test_a_loss_that_asks_for_the_logits_gets_two_classes() -> None:
    student, teacher = pair()
    entry = {"loss": {"type": "bsd_region", "cells": 4}, "student": "backbone", "adapt": "conv1x1"}
    model = Distiller(student=student, teacher=teacher, distills=[entry]).eval()
    seen: dict[str, Tensor] = {}
    loss = model.distill["bsd_region"].loss
    loss.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    found = batch(model)
    model(**found, mode="loss")
    torch.testing.assert_close(seen["student_logits"], both(logits(student, found)).detach())
    torch.testing.assert_close(seen["teacher_logits"], both(logits(teacher, found)).detach())


def test_losses_on_features_see_the_channel_as_it_is() -> None:
    student, teacher = pair()
    entries = [{"loss": loss, "student": TAP} for loss in ("mse", "cwd")]
    model = Distiller(student=student, teacher=teacher, distills=entries).eval()
    found = batch(model)
    losses = model(**found, mode="loss")
    s, t = logits(student, found), logits(teacher, found)
    torch.testing.assert_close(losses["distill.loss_mse"], F.mse_loss(s, t))
    torch.testing.assert_close(losses["distill.loss_cwd"], kdlosses.cwd(s, t))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"loss": "kl", "student": "backbone.narrow"}, "single channel that is no sigmoid"),
        ({"loss": {"type": "ramp", "loss": "kl"}, "student": "backbone.narrow"}, "single channel that is no sigmoid"),
        ({"loss": "skd_holistic", "student": "backbone.narrow"}, "single channel that is no sigmoid"),
        *(
            ({"loss": loss, "student": TAP}, "a single channel has none but its sign")
            for loss in ("cosine", "hfd", "dmae", "instance_text")
        ),
        ({"loss": "std_kd", "student": TAP}, "needs three classes"),
    ],
)
def test_what_would_be_constant_is_refused(entry: dict[str, Any], message: str) -> None:
    student, teacher = pair()
    with pytest.raises(ValueError, match=message):
        Distiller(student=student, teacher=teacher, distills=[entry])


@pytest.mark.parametrize(("mine", "its"), [(1, 5), (5, 1)])
def test_a_sigmoid_stands_for_two_classes_and_no_others(mine: int, its: int) -> None:
    student, teacher = (
        TinySegmenter(channels=mine, classes=max(mine, 2)),
        TinySegmenter(channels=its, classes=max(its, 2)),
    )
    with pytest.raises(
        ValueError, match=rf"the student has {max(mine, 2)} classes, the teacher {max(its, 2)};.*class_map"
    ):
        Distiller(student=student, teacher=teacher, distills=[{"loss": "kl", "student": TAP}])


def test_a_loss_of_ones_own_says_that_it_compares_classes() -> None:
    def agreement(student: Tensor, teacher: Tensor) -> Tensor:
        return 1 - (student.softmax(1) * teacher.softmax(1)).sum(1).mean()

    agreement.categorical = True  # type: ignore[attr-defined]
    student, teacher = pair()
    model = Distiller(student=student, teacher=teacher, distills=[{"loss": agreement, "student": TAP}]).eval()
    found = batch(model)
    value = model(**found, mode="loss")["distill.loss_agreement"]
    p, q = logits(teacher, found).sigmoid(), logits(student, found).sigmoid()
    torch.testing.assert_close(value, 1 - (p * q + (1 - p) * (1 - q)).mean())


@pytest.mark.parametrize("classes", [1, 3])
def test_each_sigmoid_of_a_detector_is_a_problem_of_two_classes(det: Config, classes: int) -> None:
    det.model.bbox_head.num_classes = classes
    entry = {"loss": "kl", "student": "bbox_head.retina_cls", "where": "boxes"}
    torch.manual_seed(0)
    teacher = build_model(det)[0]
    model = Distiller(student=det, teacher=teacher, distills=[entry]).eval()
    found = det_batch(model)
    for sample in found["data_samples"]:
        sample.gt_instances.labels %= classes
    value = model(**found, mode="loss")["distill.loss_kl"]
    expected = 0.0
    with Taps(model, ["bbox_head.retina_cls"]) as mine, Taps(teacher, ["bbox_head.retina_cls"]) as its, torch.no_grad():
        model(found["inputs"], mode="tensor"), teacher(found["inputs"], mode="tensor")
    for s, t in zip(mine["bbox_head.retina_cls"], its["bbox_head.retina_cls"]):
        q, p = s.double().sigmoid(), t.double().sigmoid()
        each = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(1)
        cells = torch.stack([inside(sample.gt_instances.bboxes, s.shape[2:], 96) for sample in found["data_samples"]])
        expected += float((each * cells).sum() / cells.sum().clamp_min(1))
    assert expected > 0
    assert float(value) == pytest.approx(expected, rel=1e-4)


def inside(boxes: Tensor, size: Any, image: int) -> Tensor:
    y, x = ((torch.arange(n) + 0.5) * image / n for n in size)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([(x >= a) & (x < c) & (y >= b) & (y < d) for a, b, c, d in boxes]).any(0)


def test_what_a_sigmoid_is() -> None:
    student, _ = pair()
    assert sigmoid_logits(student, TAP)
    assert sigmoid_logits(student, "decode_head.conv_seg:copy")
    assert not sigmoid_logits(student, "decode_head.conv_seg:in")
    assert not sigmoid_logits(student, "backbone.narrow")
    assert not sigmoid_logits(pair(2)[0], TAP)
    student.decode_head.num_classes = 1  # a head that regresses one number, such as a depth
    student.decode_head.loss_decode = nn.MSELoss()
    assert not sigmoid_logits(student, TAP)


@pytest.mark.parametrize(
    "method", ["kl", "dist", "skd", "cirkd", "cwd", "pkd", "acam", {"type": "bpkd", "kernel": 3}, "ifvd", "mgd"]
)
def test_methods_for_segmenters_teach_a_binary_one(method: Any) -> None:
    assert "student" in inspect.signature(METHODS[name_of(method)]).parameters
    student, teacher = pair()
    model = Distiller(student=student, teacher=teacher, method=method).eval()
    losses = model(**batch(model), mode="loss")
    for key, value in losses.items():
        if key.startswith("distill.") and "memory" not in key:  # which is still empty
            assert any(g is not None and g.abs().sum() > 1e-9 for g in gradients(value, model)), key


def gradients(value: Tensor, model: nn.Module) -> list[Tensor | None]:
    parameters = [*model.backbone.parameters(), *model.decode_head.parameters()]
    return list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))
