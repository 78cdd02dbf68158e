"""What a head ignores, and how many classes it has, reaches every loss that names it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from contract.entry import LossContract, entry_of
from mmdet.models import FusedSemanticHead
from torch import Tensor, nn

import densekd.losses  # noqa: F401  registers the losses that need maps
import kdlosses
from densekd import Distiller
from densekd.context import classes_of
from densekd.mmlab.samples import Context
from densekd.taps.reader import Taps

from .conftest import TinySegmenter, seg_batch

TAP = "decode_head.conv_seg"
NAMES = sorted(key for key, loss in kdlosses.LOSSES.items() if "ignore_index" in inspect.signature(loss).parameters)
OPTIONS: dict[str, dict[str, Any]] = {
    "cirkd_memory": {"pixels": 50, "regions": 5},
    "crd": {"samples": 200, "negatives": 8, "channels": 4},
}


def pair(ignore_index: int) -> tuple[TinySegmenter, TinySegmenter]:
    torch.manual_seed(0)
    options = dict(channels=5, classes=5, ignore_index=ignore_index)
    return TinySegmenter(**options).eval(), TinySegmenter(width=4, **options).eval()


def batch(model: nn.Module, ignore_index: int) -> tuple[dict[str, Any], Tensor]:
    """A batch, and its label map with 255 for what does not count."""
    found = seg_batch(model, size=16)
    for sample in found["data_samples"]:
        labels = sample.gt_sem_seg.data
        labels[labels != 255] %= 5
        labels[:, 5:12, :9] = 3
        labels[labels == 255] = ignore_index
    maps = torch.cat([sample.gt_sem_seg.data for sample in found["data_samples"]])
    return found, maps.where(maps != ignore_index, 255)


@pytest.mark.parametrize("ignore_index", [0, 254])
@pytest.mark.parametrize("name", NAMES)
def test_ignored_positions_do_not_count(name: str, ignore_index: int, at: Any) -> None:
    at(0.5)
    assert len(NAMES) > 10
    student, teacher = pair(ignore_index)
    options = {**entry_of(LossContract, name).options, **OPTIONS.get(name, {})}
    spec = {"type": name, **{key: value for key, value in options.items() if key != "ignore_index"}}
    tap = f"{TAP}:in" if kdlosses.LOSSES[name].ground.middle else TAP
    model = Distiller(student=student, teacher=teacher, distills=[{"loss": spec, "student": tap}]).eval()
    found, maps = batch(model, ignore_index)
    widths = [5 if tap == TAP else each.decode_head.conv_seg.in_channels for each in (student, teacher)]
    sizes = dict(student_channels=widths[0], teacher_channels=widths[1], channels=widths[1])
    reference = kdlosses.build(spec, **sizes, classes=5).eval()
    reference.load_state_dict(model.distill[name].loss.state_dict())
    value = model(**found, mode="loss")[f"distill.loss_{name}"]
    with Taps(student, [TAP, tap]) as mine, Taps(teacher, [TAP, tap]) as its:
        student(found["inputs"]), teacher(found["inputs"])
    s, t = mine[tap][0], its[tap][0]
    known = {"labels": maps[:, ::2, ::2], "label_map": maps}
    known |= {"student_logits": mine[TAP][0].detach(), "teacher_logits": its[TAP][0]}
    known["progress"] = torch.tensor(0.5).item()
    expected = reference(s, t, **{key: each for key, each in known.items() if key in reference.needs})
    torch.testing.assert_close(value, expected)


def test_a_loss_inside_of_a_policy_knows_it_too() -> None:
    student, teacher = pair(0)
    spec = {"type": "warmup", "loss": {"type": "stages", "losses": [(1.0, "dkd")]}, "epochs": 1}
    model = Distiller(student=student, teacher=teacher, distills=[{"loss": spec, "student": TAP, "name": "all"}])
    found = [each.options.get("ignore_index") for each in model.modules() if getattr(each, "name", "") == "dkd"]
    assert found == [0]


def test_what_the_entry_says_stands() -> None:
    student, teacher = pair(0)
    entry = {"loss": {"type": "dkd", "ignore_index": 3}, "student": TAP}
    model = Distiller(student=student, teacher=teacher, distills=[entry])
    assert model.distill["dkd"].loss.options["ignore_index"] == 3


def test_positions_that_are_labelled() -> None:
    student, teacher = pair(0)
    entry = {"loss": "kl", "student": TAP, "where": "labelled"}
    model = Distiller(student=student, teacher=teacher, distills=[entry]).eval()
    found, maps = batch(model, 0)
    with Taps(student, [TAP]) as mine, Taps(teacher, [TAP]) as its:
        student(found["inputs"]), teacher(found["inputs"])
    expected = kdlosses.kl(mine[TAP][0], its[TAP][0], weight=maps[:, ::2, ::2] != 255)
    torch.testing.assert_close(model(**found, mode="loss")["distill.loss_kl"], expected)


def test_each_head_knows_its_own() -> None:
    model: Any = TinySegmenter(channels=5, classes=5, ignore_index=7)
    other = TinySegmenter(channels=3, classes=3, ignore_index=9).decode_head
    model.auxiliary_head = nn.ModuleList([other])
    assert classes_of(model) == (5, 7)
    assert classes_of(model, "backbone:0") == (5, 7)
    assert classes_of(model, "auxiliary_head.0.conv_seg") == (3, 9)
    model.decode_head = nn.ModuleList([other, model.decode_head])  # a cascade
    assert classes_of(model) == (5, 7)
    assert classes_of(model, "decode_head.0.conv_seg:in+decode_head.1.conv_seg") == (3, 9)


def test_a_depth_has_no_classes() -> None:
    model = TinySegmenter(channels=1, classes=2)
    assert classes_of(model)[0] == 2
    model.decode_head.num_classes = 1
    model.decode_head.loss_decode = nn.MSELoss()
    assert classes_of(model)[0] is None


@pytest.mark.parametrize("place", ["roi_head", "self"])
def test_the_branch_of_a_detector_for_semantic_classes(place: str) -> None:
    loss = {"type": "mmdet.CrossEntropyLoss", "ignore_index": 99, "loss_weight": 0.2}
    semantic = FusedSemanticHead(num_ins=1, fusion_level=0, num_convs=1, in_channels=2, num_classes=6, loss_seg=loss)
    model: Any = nn.Module()
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = nn.ModuleList([nn.Module(), nn.Module()])  # a cascade
    model.roi_head.bbox_head[-1].num_classes = 4
    (model.roi_head if place == "roi_head" else model).semantic_head = semantic
    path = "roi_head.semantic_head" if place == "roi_head" else "semantic_head"
    assert classes_of(model) == (4, 99)
    assert classes_of(model, f"{path}.conv_logits") == (6, 99)
    assert Context([], (4, 4), classes_of(model)[1]).ignore_index == 99
