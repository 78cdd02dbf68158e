"""Localisation distillation: which positions count, by how much, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import MethodContract
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densekd import Distiller
from densekd.methods import method_entries
from densekd.mmlab.assigned import Assigned, valuable
from densekd.mmlab.building import build_model
from densekd.taps.reader import Taps

from ..conftest import CONFIGS, det_batch
from ..test_assigned import BOXES, detector
from .teaching import gap, scenes_of_objects

SCALES = "+".join(f"bbox_head.scales.{i}" for i in range(5))
SCORES = "bbox_head.gfl_cls"


def gfl(seed: int = 0, **options: Any) -> nn.Module:
    config = Config.fromfile(CONFIGS / "det.py")
    detector(config, "GFLHead")
    config.model.bbox_head.update(options)
    model = build_model(config)[0]
    torch.manual_seed(seed)
    for weight in model.bbox_head.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)
    return model


def pair() -> Mapping[str, Any]:
    return dict(scope="mmdet", student=gfl(), teacher=gfl(1), batch=det_batch)


CONTRACT = MethodContract("ld", models=pair)


def taught(**options: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(student=gfl(), teacher=gfl(1), method=dict(type="ld", **options)).eval()


def told(model: nn.Module, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Distributions of the sides `(P, 4, bins)` and class logits `(P, K)` at all positions, in double precision."""
    with Taps(model, [SCALES, SCORES]) as taps, torch.no_grad():
        model(batch["inputs"], mode="tensor")
    rows = [
        torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in taps[tap]]).double().numpy()
        for tap in (SCALES, SCORES)
    ]
    return rows[0].reshape(len(rows[0]), 4, -1), rows[1]


def kl(s: np.ndarray, t: np.ndarray, tau: float) -> np.ndarray:
    log_q, log_p = (z / tau - np.log(np.exp(z / tau).sum(-1, keepdims=True)) for z in (s, t))
    return tau**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


def test_values_by_hand() -> None:
    """Positions that the assigner gives an object, by the student's score; beside them those near, by overlap."""
    model = taught(weight=0.5, valuable=0.3, classes=0.2)
    batch = det_batch(model)
    with Assigned(model) as assigned:
        losses = model(**batch, mode="loss")
    s, z = told(model, batch)
    t, c = told(model.teachers["teacher"].model, batch)
    sizes = [tuple(each.shape[2:]) for each in assigned.levels]
    objects = np.concatenate([assigned.objects(size, i).numpy().ravel() for i, size in enumerate(sizes)])
    near = np.concatenate([assigned.valuable(size, i).numpy().ravel() for i, size in enumerate(sizes)])
    assert objects.sum() > 3
    assert (near > 0).sum() > 3
    assert not (near[objects] > 0).any()
    each, score = kl(s, t, 10.0).mean(1), (1 / (1 + np.exp(-z))).max(1)
    expected = {
        "ld": 0.5 * (score * each)[objects].sum() / score[objects].sum(),
        "ld_valuable": 0.3 * (near * each).sum() / near.sum(),
        "ld_classes": 0.2 * kl(z, c, 2.0)[objects].mean(),
    }
    found = {key: losses[f"distill.loss_{key}"].item() for key in expected}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=2e-3, err_msg=key)


def test_what_the_teacher_says_elsewhere_is_not_read() -> None:
    model = taught(valuable=0.0)
    batch = det_batch(model)
    with Assigned(model) as assigned:
        before = model(**batch, mode="loss")
    masks = [assigned.objects(tuple(each.shape[2:]), i) for i, each in enumerate(assigned.levels)]
    teacher: Any = model.teachers["teacher"].model

    def noise(where: bool) -> Any:
        left = iter(masks)

        def hook(module: nn.Module, args: Any, out: Tensor) -> Tensor:
            return out + 9 * torch.randn_like(out) * (next(left) == where)

        return hook

    for where in (False, True):
        change = noise(where)
        hooks = [each.register_forward_hook(change) for each in teacher.bbox_head.scales]
        after = model(**batch, mode="loss")
        for hook in hooks:
            hook.remove()
        same = torch.allclose(before["distill.loss_ld"], after["distill.loss_ld"])
        assert same != where


def test_the_score_carries_no_gradient_and_the_distributions_do() -> None:
    model = taught(valuable=0.0, classes=0.0)
    model(**det_batch(model), mode="loss")["distill.loss_ld"].backward()
    assert model.bbox_head.gfl_reg.weight.grad.abs().sum() > 0
    assert model.bbox_head.scales[0].scale.grad.abs() > 0
    assert model.bbox_head.gfl_cls.weight.grad is None
    assert all(each.grad is None for each in model.teachers["teacher"].model.parameters())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    both = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return both / (sum((each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)) - both)


def test_the_valuable_region_by_a_loop_over_anchors_and_boxes() -> None:
    levels = []
    for stride in (8, 16, 32):
        centres = (np.arange(96 // stride) + 0.5) * stride
        levels.append(
            np.array(
                [[x - 4 * stride, y - 4 * stride, x + 4 * stride, y + 4 * stride] for y in centres for x in centres]
            )
        )
    anchors, counts = np.concatenate(levels), [len(each) for each in levels]
    expected = np.zeros(len(anchors))
    for box in BOXES.numpy().astype(float):
        centre = (box[:2] + box[2:]) / 2
        far = [np.sum(((a[:2] + a[2:]) / 2 - centre) ** 2) for a in anchors]
        candidates, start = [], 0
        for count in counts:
            candidates += [start + i for i in np.argsort(far[start : start + count], kind="stable")[:5]]
            start += count
        overlaps = [iou(anchors[i], box) for i in candidates]
        bound = np.mean(overlaps) + np.std(overlaps, ddof=1)
        for i, a in enumerate(anchors):
            around = np.maximum(a[2:], box[2:]) - np.minimum(a[:2], box[:2])
            diou = iou(a, box) - far[i] / (around**2).sum()
            if 0.25 * bound <= diou < bound:
                expected[i] = max(expected[i], iou(a, box))
    assert 5 < (expected > 0).sum() < 0.8 * len(anchors)
    found = valuable(torch.from_numpy(anchors), counts, BOXES.double(), topk=5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert not valuable(torch.from_numpy(anchors), counts, BOXES[:0]).any()


def test_images_without_boxes_cost_nothing() -> None:
    model = taught()
    batch = det_batch(model)
    for sample in batch["data_samples"]:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    losses = {key: value for key, value in model(**batch, mode="loss").items() if "distill." in key}
    assert [value.item() for value in losses.values()] == [0.0] * 3
    sum(losses.values()).backward()
    assert model.bbox_head.gfl_reg.weight.grad is not None


def test_objects_and_the_valuable_region_restrict_features_of_a_neck(det: Config) -> None:
    """As many anchors as a location has, it counts where one of them does; and a batch of one empty image is none."""
    entries = [dict(loss="mse", student="neck", where=where, name=where) for where in ("objects", "valuable")]
    model = Distiller(student=build_model(det)[0], teacher="ema", distills=entries)
    with torch.no_grad():
        for weight in model.teachers["teacher"].model.neck.parameters():
            weight += 0.1
    model.teachers["teacher"].update = lambda student: None  # type: ignore[method-assign]
    with Assigned(model) as assigned:
        losses = model(**det_batch(model), mode="loss")
    assert losses["distill.loss_objects"] > 0
    assert losses["distill.loss_valuable"] > 0
    assert assigned.objects(tuple(assigned.levels[0].shape[2:]), 0).shape[1] == 9


def test_what_is_refused(det: Config, seg: Config) -> None:
    retina, segmenter = build_model(det)[0], build_model(seg)[0]
    for model in (retina, segmenter):
        with pytest.raises(ValueError, match="'ld' is for detectors with a GFLHead of mmdet; the student, a"):
            method_entries("ld", model, gfl())
    with pytest.raises(ValueError, match="the student tells 17 bins a side, the teacher 9: reg_max must agree"):
        method_entries("ld", gfl(), gfl(reg_max=8))
    with pytest.raises(ValueError, match="'ld': all three weights are 0"):
        method_entries(dict(type="ld", weight=0, valuable=0, classes=0), gfl(), gfl())
    with pytest.raises(ValueError, match="where='valuable' needs a detector of mmdet that assigns labels to anchors"):
        Distiller(detector(copy.deepcopy(det), "FCOSHead"), "ema", [dict(loss="mse", student="neck", where="valuable")])
    with pytest.raises(ValueError, match="where='objects' needs a student whose head assigns labels"):
        Distiller(segmenter, "ema", [dict(loss="mse", student="backbone:0", where="objects")])
    plain = dict(loss="kl", student="decode_head.conv_seg")
    for wrong, message in (
        (dict(join=1), "join must be True or False, got 1"),
        (dict(through=lambda s, t: (s, t, None)), "through must be a module, got <function"),
        (dict(loss="mgd", join=True), "of which loss 'mgd' cannot read 'the plane'"),
        (dict(join=True, class_map=[0]), "class_map has no meaning beside join="),
        (dict(loss="mse", student="backbone", join=True), "join=True makes one row of .* of one number of channels"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            Distiller(segmenter, "ema", [{**plain, **wrong}])


def test_joined_levels_are_one_mean(det: Config) -> None:
    found = {}
    for join in (False, True):
        torch.manual_seed(0)
        entry = dict(loss="mse", student="neck", where="boxes", join=join)
        model = Distiller(student=build_model(det)[0], teacher=build_model(det)[0], distills=[entry])
        batch = det_batch(model)
        found[join] = model(**batch, mode="loss")["distill.loss_mse"].item()
    with Taps(model, ["neck"]) as mine, Taps(model.teachers["teacher"].model, ["neck"]) as its, torch.no_grad():
        model(batch["inputs"], mode="tensor")
        model.teachers["teacher"].model(batch["inputs"], mode="tensor")
    total, count, sums = 0.0, 0, []
    for s, t in zip(mine["neck"], its["neck"]):
        stride = 96 / s.shape[2]
        centre = (torch.arange(s.shape[2]) + 0.5) * stride
        inside = torch.zeros(s.shape[2:], dtype=torch.bool)
        for x1, y1, x2, y2 in BOXES.tolist():
            inside |= ((centre >= y1) & (centre < y2))[:, None] & ((centre >= x1) & (centre < x2))
        each = (s - t).square().mean(1)[:, inside]
        total, count = total + each.sum().item(), count + each.numel()
        sums.append(each.mean().item() if each.numel() else 0.0)
    assert found[True] == pytest.approx(total / count, rel=1e-4)
    assert found[False] == pytest.approx(sum(sums), rel=1e-4)
    assert found[True] != pytest.approx(found[False], rel=1e-2)


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    configs = [CONFIGS.parents[2] / "configs" / "det" / "plain" / f"gfl_r18_w{width}_digits.py" for width in (16, 32)]
    taught, control = (gap(*configs, "ld", scenes_of_objects, taught=taught) for taught in (True, False))
    assert taught < 0.9 * control
