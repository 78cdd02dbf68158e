"""`proposals`: each row of a two-stage teacher is of the box that the student has sampled, not of one of its own."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import MethodContract
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from torch import Tensor, nn

from densekd import Distiller
from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from ..conftest import det_batch
from ..test_proposals import CLASSES, K, overlaps, two_stage


def models() -> dict[str, Any]:
    return {"scope": "mmdet", "student": detector("mask"), "teacher": detector("mask", 24, seed=1), "batch": batch_of}


CONTRACT = MethodContract("proposals", models=models)
ZOO = {
    "faster": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "mask": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade mask": "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
}


def config_of(kind: str, width: int = 16, **head: Any) -> Config:
    config = two_stage(width, ZOO[kind])
    roi_head = config.model.roi_head
    for each in listed(roi_head.bbox_head):
        each.update(head)
    if "mask" in kind:
        roi_head.mask_roi_extractor.out_channels = width
        for each in listed(roi_head.mask_head):
            classes = head.get("num_classes", K)
            each.update(in_channels=width, conv_out_channels=8, num_convs=1, num_classes=classes)
    return config


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def detector(kind: str, width: int = 16, seed: int = 0, **head: Any) -> Any:
    torch.manual_seed(seed)
    model = build_model(config_of(kind, width, **head))[0]
    with torch.no_grad():
        for name, weight in model.named_parameters():  # else boxes hardly differ
            if name.endswith(("fc_reg.weight", "fc_cls.weight", "conv_logits.weight")):
                nn.init.normal_(weight, std=0.3)
    return model


def batch_of(model: Any, boxes: Callable[[int], int] = lambda image: 2, size: int = 96) -> dict[str, Any]:
    """The batch of `det_batch` with so many of its boxes in each image, and masks of their lower halves."""
    batch = det_batch(model, size=size)
    for image, sample in enumerate(batch["data_samples"]):
        sample.gt_instances = sample.gt_instances[: boxes(image)]
        masks = np.zeros((len(sample.gt_instances), size, size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, sample.gt_instances.bboxes.int().tolist()):
            mask[(y1 + y2) // 2 : y2, x1:x2] = 1
        sample.gt_instances.masks = BitmapMasks(masks, size, size)
    return batch


def terms_of(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key.removeprefix("distill.loss_"): each for key, each in losses.items() if key.startswith("distill.")}


Seen = dict[str, tuple[Tensor, Tensor]]


def nosy(seen: Seen, name: str) -> nn.Module:
    class Nosy(nn.Module):
        def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
            seen[name] = student.detach(), teacher
            return student.square().mean()

    return Nosy()


def compared(student: Any, teacher: Any, **options: Any) -> tuple[Any, Seen, dict[str, Tensor], dict[str, Any]]:
    """A distiller, what its entries have compared in a step, the boxes that the student has pooled, and the batch."""
    seen: Seen = {}
    entries = method_entries({"type": "proposals", **options}, student, teacher)
    entries = [{**entry, "loss": nosy(seen, entry["name"])} for entry in entries]
    model = Distiller(student=student, teacher=teacher, distills=entries)
    rois: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module, args: Any, output: Any) -> None:
        rois[name] = args[1]

    for name, module in model.named_modules():
        if type(module).__name__ == "SingleRoIExtractor":
            module.register_forward_hook(functools.partial(look, name))
    batch = batch_of(model)
    seen.clear()
    model(**batch, mode="loss")
    return model, seen, rois, batch


def answer(model: Any, batch: dict[str, Any], part: str, stage: int | None, rois: Tensor) -> dict[str, Tensor]:
    """What a teacher's own method says of boxes in the batch."""
    teacher = model.teachers["teacher"]
    with torch.no_grad():
        levels = teacher.model.extract_feat(teacher._renormalise(batch["inputs"], None))
        stages = () if stage is None else (stage,)
        return getattr(teacher.model.roi_head, f"_{part}_forward")(*stages, levels, rois)


def classes_of_boxes(rois: Tensor, least: float) -> Tensor:
    overlap, nearest = overlaps(rois[:, 1:]).max(1)
    return CLASSES[nearest].where(overlap >= least, K)


@pytest.mark.parametrize("kind", ZOO)
def test_the_teachers_rows_are_what_its_heads_say_of_the_students_boxes(kind: str) -> None:
    model, seen, rois, batch = compared(detector(kind), detector(kind, 24, seed=1))
    stages = [*range(3)] if "cascade" in kind else [None]
    for stage in stages:
        end, path = ("", "") if stage is None else (f"_{stage}", f".{stage}")
        boxes = rois[f"roi_head.bbox_roi_extractor{path}"]
        labels = classes_of_boxes(boxes, (0.5, 0.6, 0.7)[stage or 0])
        told = answer(model, batch, "bbox", stage, boxes)
        mine, its = seen[f"classes{end}"]
        assert len(mine) == len(its) == len(boxes)
        torch.testing.assert_close(its, told["cls_score"], atol=1e-6, rtol=0)
        mine, its = seen[f"boxes{end}"]
        rows = [i for i, label in enumerate(labels.tolist()) if label < K]
        agnostic = "cascade" in kind
        expected = [told["bbox_pred"][i].view(-1, 4)[0 if agnostic else labels[i]] for i in rows]
        assert 0 < len(rows) < len(boxes)
        torch.testing.assert_close(its, torch.stack(expected), atol=1e-6, rtol=0)
        if "mask" in kind:
            objects = rois[f"roi_head.mask_roi_extractor{path}"]
            assert torch.equal(objects, boxes[rows])
            masks = answer(model, batch, "mask", stage, objects)["mask_preds"]
            expected = [mask[label][None] for mask, label in zip(masks, labels[rows])]
            mine, its = seen[f"masks{end}"]
            assert mine.shape == its.shape == (len(rows), 1, *masks.shape[2:])
            torch.testing.assert_close(its, torch.stack(expected), atol=1e-6, rtol=0)
    assert {*seen} == {entry["name"] for entry in method_entries("proposals", model, model.teachers["teacher"].model)}


def test_values_are_those_of_the_formulas() -> None:
    seen: Seen = {}
    student, teacher = detector("mask"), detector("mask", 24, seed=1)
    entries = method_entries("proposals", student, teacher)
    spies = [{**entry, "loss": nosy(seen, entry["name"]), "name": f"spy_{entry['name']}"} for entry in entries]
    model = Distiller(student=student, teacher=teacher, distills=[*entries, *spies])
    losses = terms_of(model(**batch_of(model), mode="loss"))
    pairs = {name: [each.double().numpy() for each in pair] for name, pair in seen.items()}
    s, t = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in pairs["classes"])
    expected = {"classes": (t * np.log(t / s)).sum(1).mean()}
    s, t = pairs["boxes"]
    expected["boxes"] = np.where(abs(s - t) < 1, (s - t) ** 2 / 2, abs(s - t) - 0.5).mean()
    s, t = (1 / (1 + np.exp(-z)) for z in pairs["masks"])
    expected["masks"] = (t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))).mean()
    for name, value in expected.items():
        np.testing.assert_allclose(losses[name].item(), value, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mask", "cascade"])
def test_proposals_of_the_teachers_own_do_not_count(kind: str) -> None:
    """With them another RPN of the teacher would change the rows, and with the student's RPN they would stay."""
    values = []
    for side in (None, "teacher", "student"):
        models = {"student": detector(kind), "teacher": detector(kind, 24, seed=1)}
        if side is not None:
            nn.init.normal_(models[side].rpn_head.rpn_reg.weight, std=0.5)
        model = Distiller(**models, method="proposals").eval()
        torch.manual_seed(3)
        values.append({key: value.item() for key, value in terms_of(model(**batch_of(model), mode="loss")).items()})
    as_they_are, other_teacher, other_student = values
    assert as_they_are == other_teacher
    assert all(as_they_are[key] != other_student[key] for key in as_they_are if not key.startswith("boxes"))


@pytest.mark.parametrize("kind", ZOO)
def test_a_perfect_student_pays_nothing_and_is_not_moved(kind: str) -> None:
    student, twin = detector(kind), detector(kind)
    model = Distiller(student=student, teacher=twin, method="proposals", task_weight=0.0).eval()
    losses = terms_of(model(**batch_of(model), mode="loss"))
    for value in losses.values():
        assert abs(value.item()) < 1e-6
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in model.parameters())
    other = Distiller(student=detector(kind), teacher=detector(kind, 24, seed=1), method="proposals").eval()
    assert all(value > 1e-3 for value in terms_of(other(**batch_of(other), mode="loss")).values())


@pytest.mark.parametrize("kind", ZOO)
@pytest.mark.parametrize("nothing", ["a box in one image", "a box in any", "a box or a proposal"])
def test_images_without_boxes_or_proposals(kind: str, nothing: str) -> None:
    student = config_of(kind)
    if nothing == "a box or a proposal":
        student.model.train_cfg.rpn_proposal.update(min_bbox_size=1000)
    model = Distiller(student=student, teacher=detector(kind, 24, seed=1), method="proposals")
    batch = batch_of(model, lambda image: 2 * (image == 0 and nothing == "a box in one image"))
    losses = model(**batch, mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    for name, value in terms_of(losses).items():
        assert value.isfinite()
        there = nothing == "a box in one image" or (nothing == "a box in any" and name.startswith("classes"))
        assert (value.item() > 0) == there, name
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_many_boxes() -> None:
    config = config_of("mask")
    config.model.train_cfg.rpn_proposal.update(nms_pre=2000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.99))
    model, seen, rois, batch = compared(build_model(config)[0], detector("mask", 24, seed=1))
    boxes = rois["roi_head.bbox_roi_extractor"]
    assert len(boxes) > 300
    told = answer(model, batch, "bbox", None, boxes)
    torch.testing.assert_close(seen["classes"][1], told["cls_score"], atol=1e-6, rtol=0)


def test_a_cascade_teaches_one_stage_and_one_head_all_stages() -> None:
    faster, cascade = detector("faster"), detector("cascade", 24, seed=1)
    model, seen, rois, batch = compared(faster, cascade)
    boxes = rois["roi_head.bbox_roi_extractor"]
    torch.testing.assert_close(seen["classes"][1], answer(model, batch, "bbox", 0, boxes)["cls_score"])
    assert seen["boxes"][0].shape == seen["boxes"][1].shape  # of one class of many, and of one for all
    model, seen, rois, batch = compared(detector("cascade"), detector("faster", 24, seed=1))
    for stage in range(3):
        boxes = rois[f"roi_head.bbox_roi_extractor.{stage}"]
        told = answer(model, batch, "bbox", None, boxes)
        torch.testing.assert_close(seen[f"classes_{stage}"][1], told["cls_score"])
    means, own, its = np.zeros(4), np.array([0.033, 0.033, 0.067, 0.067]), np.array([0.1, 0.1, 0.2, 0.2])
    labels = classes_of_boxes(boxes, 0.7)
    rows = (labels < K).nonzero().flatten().tolist()
    raw = np.stack([told["bbox_pred"][i].view(-1, 4)[labels[i]].numpy() for i in rows])
    # the same box by both coders, from the centre and the size that the teacher's offsets mean
    np.testing.assert_allclose(seen["boxes_2"][1].numpy(), ((raw * its + means) - means) / own, rtol=1e-5)


def test_a_box_that_both_tell_alike_costs_nothing_whatever_the_scale_of_their_offsets() -> None:
    student = detector("faster")
    teacher = copy.deepcopy(student)
    coder = teacher.roi_head.bbox_head.bbox_coder
    with torch.no_grad():
        shift = torch.tensor([0.1, -0.2, 0.3, 0.0])
        layer = teacher.roi_head.bbox_head.fc_reg
        layer.weight /= 2
        layer.bias.copy_(
            (layer.bias.view(-1, 4) * torch.tensor(coder.stds) - shift).div(2 * torch.tensor(coder.stds)).flatten()
        )
    coder.means, coder.stds = shift.tolist(), [2 * each for each in coder.stds]
    model = Distiller(student=student, teacher=teacher, method=dict(type="proposals", classes=0.0)).eval()
    assert terms_of(model(**batch_of(model), mode="loss"))["boxes"] < 1e-8
    coder.means = (0.0,) * 4
    model = Distiller(student=student, teacher=teacher, method=dict(type="proposals", classes=0.0)).eval()
    assert terms_of(model(**batch_of(model), mode="loss"))["boxes"] > 1e-2


@pytest.mark.parametrize("kind", ["faster", "cascade"])
def test_a_sampler_that_asks_the_head_itself_does_not_change_the_rows(kind: str) -> None:
    config = config_of(kind)
    for each in listed(config.model.train_cfg.rcnn):
        each.sampler.update(type="OHEMSampler", num=8)
    model, seen, rois, batch = compared(build_model(config)[0], detector(kind, 24, seed=1))
    for stage, end, path in [(i, f"_{i}", f".{i}") for i in range(3)] if kind == "cascade" else [(None, "", "")]:
        boxes = rois[f"roi_head.bbox_roi_extractor{path}"]
        mine, its = seen[f"classes{end}"]
        assert len(mine) == len(boxes) == 16
        torch.testing.assert_close(its, answer(model, batch, "bbox", stage, boxes)["cls_score"], atol=1e-6, rtol=0)
    auto = [dict(loss="kl", student="roi_head.bbox_head.fc_cls", weight="auto")]
    if kind == "faster":  # gradients are those of the rows that are compared
        model = Distiller(student=config, teacher=detector(kind, 24, seed=1), distills=auto)
        model.parse_losses(model(**batch_of(model), mode="loss"))[0].backward()
        assert model.distill["kl"].auto.weight > 0


def test_items_of_a_whole_head_are_named_from_either_end() -> None:
    values = []
    for item in (1, -1):
        entries = [dict(loss="smooth_l1", student=f"roi_head.bbox_head:{item}")]
        model = Distiller(student=detector("faster"), teacher=detector("faster", 24, seed=1), distills=entries)
        torch.manual_seed(3)
        values.append(terms_of(model(**batch_of(model), mode="loss"))["smooth_l1"].item())
    assert values[0] == values[1] > 0
    whole = [dict(loss="kl", student="roi_head.bbox_head")]
    with pytest.raises(ValueError, match=r"entry 'kl': tap 'roi_head.bbox_head' yields 2 tensors .* '.*bbox_head:0'"):
        Distiller(student=detector("faster"), teacher=detector("faster", 24), distills=whole)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (dict(loss="kl", student="roi_head.mask_head.conv_logits", where="masks"), "where='masks' is of"),
        (
            dict(loss="kl", student="roi_head.mask_head.conv_logits", where="labelled_images"),
            "where='labelled_images' is of",
        ),
        (dict(loss="kl", student="roi_head.mask_head.conv_logits", class_weight=[1.0, 2.0]), "class_weight=.* is of"),
        (dict(loss="mse", student="roi_head.bbox_roi_extractor", where="objects"), "where='objects' is of"),
        (dict(loss="fgd", student="roi_head.bbox_roi_extractor"), "'boxes' of loss 'fgd' is of"),
    ],
)
def test_positions_of_an_image_do_not_choose_among_those_of_proposals(entry: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} positions of an image, but tap .* a map for each proposal"):
        Distiller(student=detector("mask"), teacher=detector("mask", 24), distills=[entry])


def test_other_classes_by_a_map() -> None:
    """A teacher whose classes are the student's in another order, with others between, says the same."""
    kind, order = "mask", [2 * (K - 1 - c) for c in range(K)]
    student, teacher = detector(kind), detector(kind, num_classes=2 * K)
    for name, weight in student.state_dict().items():
        its = teacher.state_dict()[name]
        if its.shape == weight.shape:
            its.copy_(weight)
            continue
        groups = {
            "fc_cls": [*order, 2 * K],
            "fc_reg": [4 * c + i for c in order for i in range(4)],
            "conv_logits": order,
        }
        its.copy_(torch.full_like(its, -50.0 if name.endswith("fc_cls.bias") else 0.0))
        its[groups[name.split(".")[-2]]] = weight
    with pytest.raises(ValueError, match="give class_map"):
        Distiller(student=student, teacher=teacher, method=dict(type="proposals", boxes=0.0, masks=0.0))
    with pytest.raises(ValueError, match="the student has 10 classes, the teacher 20: give class_map"):
        Distiller(student=student, teacher=teacher, method=dict(type="proposals", classes=0.0))
    with pytest.raises(ValueError, match=r"a class from 0 to 19 for each of the student's 10, without background"):
        Distiller(student=student, teacher=teacher, method=dict(type="proposals", classes=0.0, class_map=[20] * K))
    with pytest.raises(ValueError, match=r"class_map must list a class of the teacher.* got 5"):
        Distiller(student=student, teacher=teacher, method=dict(type="proposals", class_map=5))
    model = Distiller(student=student, teacher=teacher, method=dict(type="proposals", class_map=order)).eval()
    assert all(abs(value) < 1e-6 for value in terms_of(model(**batch_of(model), mode="loss")).values())
    wrong = dict(type="proposals", class_map=order[::-1])
    model = Distiller(student=student, teacher=teacher, method=wrong).eval()
    assert all(value > 1e-3 for value in terms_of(model(**batch_of(model), mode="loss")).values())


def test_losses_read_labels_and_objects_alone_count_where_they_are_asked_for() -> None:
    rows: dict[str, tuple[Tensor, ...]] = {}

    class Counted(nn.Module):
        def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
            rows["seen"] = labels, weight
            return student.square().mean()

    tap = "roi_head.bbox_head.fc_cls"
    entries = [
        dict(loss="kl", student=tap, where="objects"),
        dict(loss=Counted(), student=tap, where="objects", name="x"),
    ]
    model = Distiller(student=detector("faster"), teacher=detector("faster", 24, seed=1), distills=entries)
    value = terms_of(model(**batch_of(model), mode="loss"))["kl"]
    labels, weight = rows["seen"]
    assert torch.equal(weight.bool(), labels < K)
    assert 0 < weight.sum() < len(weight)
    assert value > 0
    dkd = Distiller(
        student=detector("cascade"), teacher=detector("cascade", 24, seed=1), method=dict(type="proposals", loss="dkd")
    )
    assert all(each > 0 for each in terms_of(dkd(**batch_of(dkd), mode="loss")).values())
    masks = dict(loss="kl", student="roi_head.mask_head.conv_logits", where="objects")
    with pytest.raises(ValueError, match="at a tap of class logits"):
        Distiller(student=detector("mask"), teacher="ema", distills=[masks])


def test_kl_by_name_is_that_of_each_stage() -> None:
    student = detector("cascade")
    entries = method_entries("kl", student, student)
    assert [entry["student"] for entry in entries] == [f"roi_head.bbox_head.{i}.fc_cls" for i in range(3)]
    assert len({entry["name"] for entry in entries}) == 3


def test_weights_are_measured_at_the_layer_itself() -> None:
    method = [{**entry, "weight": "auto"} for entry in method_entries("proposals", *(2 * [detector("mask")]))]
    model = Distiller(student=detector("mask"), teacher=detector("mask", 24, seed=1), distills=method)
    terms = terms_of(model(**batch_of(model), mode="loss"))
    assert all(value.isfinite() and value > 0 for value in terms.values())


def test_other_detectors_are_refused_by_name(det: Config) -> None:
    faster, retina = detector("faster"), build_model(det)[0]
    for method in ("proposals", "kl"):
        with pytest.raises(ValueError, match=f"'{method}' .*the teacher, a RetinaNet, has a RetinaHead. 'crosskd'"):
            method_entries(method, faster, retina)
    with pytest.raises(ValueError, match="the student, a RetinaNet"):
        method_entries("proposals", retina, faster)
    with pytest.raises(ValueError, match="are 0: nothing is compared"):
        method_entries(dict(type="proposals", classes=0.0, boxes=0.0, masks=0.0), faster, faster)
    with pytest.raises(ValueError, match="in no head that student and teacher both have"):
        method_entries(dict(type="proposals", classes=0.0, boxes=0.0), faster, detector("mask"))
    bare = detector("faster")
    del bare.neck
    with pytest.raises(ValueError, match=r"with a neck, .*; the student, a FasterRCNN, has no neck"):
        method_entries("proposals", bare, faster)
    other = detector("faster")
    other.roi_head.bbox_head.bbox_coder = type("TBLRBBoxCoder", (), {})()
    with pytest.raises(ValueError, match="entry 'boxes': boxes of a TBLRBBoxCoder have other offsets"):
        Distiller(student=faster, teacher=other, method="proposals")
