"""Several teachers of one term: their channels one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import Tensor, nn

import kdlosses
from densekd import Distiller
from densekd.align.adapt import join
from densekd.mmlab.building import build_model

from .conftest import CONFIGS, det_batch, seg_batch

Taught = Callable[..., Distiller]
BOTH = {"loss": "meal", "student": "decode_head.conv_seg", "source": ["one", "other"]}


@pytest.fixture
def pair(seg: Config, seg_teacher: dict[str, str]) -> dict[str, nn.Module]:
    """Two teachers that differ in weights, and one of another resolution."""
    one, _ = build_model(seg_teacher["teacher"])
    seg.model.backbone.update(strides=(1, 1, 1, 1), contract_dilation=False)
    return {"one": one, "other": build_model(seg)[0]}


@pytest.mark.usefixtures("registry_restored")
def test_the_loss_sees_the_channels_of_all_at_the_students_size(pair: dict[str, nn.Module]) -> None:
    seen: list[Tensor] = []

    def nosy(student: Tensor, teacher: Tensor) -> Tensor:
        seen.extend([student, teacher])
        return student.mean()

    loss = kdlosses.register(match="positions")(nosy)
    model = Distiller(student=seg_student(), teacher=pair, distills=[{**BOTH, "loss": loss}]).eval()
    batch = seg_batch(model)
    model(**batch, mode="loss")
    student, teacher = seen
    assert teacher.shape == (2, 22, *student.shape[2:])
    with torch.no_grad():
        one, other = (model.teachers[name].model(renormalised(batch, model, name)) for name in pair)
    assert one.shape != other.shape
    for mine, its in zip(teacher.split(11, 1), (one, other)):
        its = F.interpolate(its, size=student.shape[2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def seg_student() -> nn.Module:
    torch.manual_seed(0)
    return build_model(CONFIGS / "seg.py")[0]


def renormalised(batch: dict[str, Any], model: Distiller, name: str) -> Tensor:
    return model.teachers[name]._renormalise(batch["inputs"], batch["data_samples"])


def test_meal_teaches_the_mean_of_both(pair: dict[str, nn.Module]) -> None:
    model = Distiller(student=seg_student(), teacher=pair, distills=[BOTH])
    losses = model(**seg_batch(model), mode="loss")
    losses["distill.loss_meal"].backward()
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0
    teachers = [p for teacher in model.teachers.values() for p in teacher.model.parameters()]
    assert all(p.grad is None for p in teachers)


def test_twice_the_same_teacher_is_one(seg_teacher: dict[str, str], taught: Taught) -> None:
    """The mean of two equal teachers is either of them."""
    sources = {"one": seg_teacher["teacher"], "other": seg_teacher["teacher"]}
    weights = dict.fromkeys(sources, seg_teacher["checkpoint"])
    entries = [BOTH, {**BOTH, "source": "one", "name": "alone"}, {**BOTH, "source": ["other"], "name": "list"}]
    model = taught(*entries, teacher=sources, checkpoint=weights).eval()
    losses = model(**seg_batch(model), mode="loss")
    both, alone, listed = (losses[f"distill.loss_{name}"] for name in ("meal", "alone", "list"))
    torch.testing.assert_close(both, alone)
    assert listed == alone


def test_each_teacher_may_have_a_tap_of_its_own(taught: Taught, seg_teacher: dict[str, str]) -> None:
    one_tap = {"loss": "meal", "student": "decode_head.conv_seg", "source": ["big", "own"]}
    taps = {**one_tap, "teacher": ["decode_head.conv_seg", "auxiliary_head.conv_seg"]}
    sources = {
        "teacher": {"big": seg_teacher["teacher"], "own": "ema"},
        "checkpoint": {"big": seg_teacher["checkpoint"]},
    }
    with pytest.raises(RuntimeError, match=r"tap 'auxiliary_head\.conv_seg' .* never fired"):
        taught(taps, **sources)
    model = taught({**taps, "teacher": ["decode_head.conv_seg", "decode_head.conv_seg"]}, **sources)
    assert model(**seg_batch(model), mode="loss")["distill.loss_meal"] > 0
    assert model.teachers["own"].steps == 1


def test_levels_are_joined_one_by_one(det: Config, det_teacher: dict[str, str]) -> None:
    entry = {"loss": "meal", "student": "bbox_head.retina_cls", "source": ["big", "own"]}
    teachers = {"big": det_teacher["teacher"], "own": "ema"}
    model = Distiller(student=det, teacher=teachers, checkpoint={"big": det_teacher["checkpoint"]}, distills=[entry])
    assert len(model.distill["meal"].adapt) == 5
    assert model(**det_batch(model), mode="loss")["distill.loss_meal"].requires_grad


def test_tokens_and_maps_are_joined_as_maps() -> None:
    maps = torch.randn(2, 3, 4, 4)
    tokens = maps.flatten(2).transpose(1, 2)
    (joined,) = join([torch.zeros(2, 3, 4, 4)], [[maps], [tokens]], (64, 64), "auto")
    assert torch.equal(joined, torch.cat([maps, maps], 1))
    rows = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(join([rows[0]], [[rows[0]], [rows[1]]], (64, 64), "auto")[0], torch.cat(rows, 1))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a loss for one": ({"loss": "kl"}, r"'kl': its loss takes one teacher, but source names 2"),
    "no teacher": ({"source": []}, "must be one tap, or one for each of"),
    "an unknown one": ({"source": ["one", "two"]}, "one of one, other; got 'two'"),
    "too few taps": ({"teacher": ["decode_head.conv_seg"]}, "must be one tap, or one for each of"),
    "a projection": ({"adapt": "conv1x1"}, "projects onto one teacher, not several"),
    "other sizes": ({"adapt": "none"}, r"must agree in all that adapt='none' does not change"),
    "other channels": ({"loss": "rkd", "student": "decode_head.bottleneck"}, r"must agree in their channels"),
    "other levels": (
        {"loss": "rkd", "student": "backbone:0", "teacher": ["backbone", "backbone:0"]},
        r"tap yields 1 tensors, the teachers' \[4, 1\]",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_joined_is_named(change: dict[str, Any], message: str, pair: dict[str, nn.Module]) -> None:
    with pytest.raises(ValueError, match=message):
        Distiller(student=seg_student(), teacher=pair, distills=[{**BOTH, **change}])


def test_other_classes_are_not_guessed(seg: Config, seg_teacher: dict[str, str], taught: Taught) -> None:
    seg.model.decode_head.num_classes = 5
    seg.model.auxiliary_head.num_classes = 5
    teachers = {"one": build_model(seg_teacher["teacher"])[0], "other": build_model(seg)[0]}
    with pytest.raises(ValueError, match=r"the student has 11 classes, the teacher 11, 5; logits of different classes"):
        Distiller(student=seg_student(), teacher=teachers, distills=[BOTH])


@pytest.mark.parametrize(
    "loss",
    [
        "average",
        {"type": "average", "loss": {"type": "kl", "tau": 2.0}, "weights": [0.7, 0.3]},
        "knfu",
        {"type": "mtard", "teachers": 2},
        {"type": "mst_distill", "classes": 11, "teachers": 2},
        {"type": "stages", "losses": [(0.5, "meal"), (1.0, "average")]},
    ],
    ids=str,
)
def test_policies_for_several_teachers_teach(loss: Any, pair: dict[str, nn.Module]) -> None:
    hub = MessageHub.get_instance("test_several_teachers")
    hub.update_info_dict({"iter": 3, "max_iters": 4})
    try:
        model = Distiller(student=seg_student(), teacher=pair, distills=[{**BOTH, "loss": loss, "name": "term"}])
        value = model(**seg_batch(model), mode="loss")["distill.loss_term"]
    finally:
        MessageHub._instance_dict.pop("test_several_teachers")
    value.backward()
    assert value > 0
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0
