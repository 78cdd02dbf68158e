"""Two-stage detectors: the teacher is asked about the proposals that the student samples, with the student's labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

import kdlosses
from densekd import Distiller, read_config
from densekd.mmlab.building import build_model
from densekd.mmlab.proposals import Proposals
from densekd.taps.roi_heads import Place

from .conftest import det_batch

K = 10
BOXES, CLASSES = torch.tensor([[8.0, 8.0, 40.0, 40.0], [48.0, 16.0, 90.0, 80.0]]), torch.tensor([1, 7])  # of det_batch
CLASSIFIER = "roi_head.bbox_head.fc_cls"


def two_stage(width: int = 16, name: str = "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py") -> Config:
    config = read_config(f"mmdet::{name}")
    model = config.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, norm_cfg=dict(type="BN"))
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=width)
    model.rpn_head.update(in_channels=width, feat_channels=width)
    head = model.roi_head
    head.bbox_roi_extractor.out_channels = width
    for each in head.bbox_head if isinstance(head.bbox_head, list) else [head.bbox_head]:
        each.update(in_channels=width, fc_out_channels=24, num_classes=K)
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=60)
    model.test_cfg.rpn.update(nms_pre=100, max_per_img=30)
    return config


def taught(*entries: dict[str, Any], **options: Any) -> Distiller:
    torch.manual_seed(0)
    teacher, _ = build_model(two_stage(24))
    return Distiller(
        student=two_stage(), teacher=teacher, **({"distills": list(entries)} if entries else {}), **options
    )


def overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union of each box `(N, 4)` with each of the truth."""
    a, b = boxes[:, None], BOXES[None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0)
    both = sides.prod(-1)
    return both / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both)


@pytest.mark.usefixtures("registry_restored")
def test_rows_and_labels_are_those_of_the_students_proposals() -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def nosy(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        seen.append((student, teacher, labels))
        return student.square().mean()

    model = taught(dict(loss=kdlosses.register(over_classes=True)(nosy), student=CLASSIFIER))
    batch = det_batch(model)
    with Proposals(model) as proposals:
        losses = model(**batch, mode="loss")
    ((student, teacher, labels),) = seen
    rois = proposals.rois[Place("bbox")]
    assert student.shape == teacher.shape == (len(rois), K + 1)
    overlap, nearest = overlaps(rois[:, 1:]).max(1)
    assert torch.equal(labels, CLASSES[nearest].where(overlap >= 0.5, K))
    assert {1, 7, K} == {*labels.tolist()}
    its = model.teachers["teacher"]
    with torch.no_grad():
        levels = its.model.extract_feat(its._renormalise(batch["inputs"], None))
        by_hand = its.model.roi_head._bbox_forward(levels, rois)["cls_score"]
    torch.testing.assert_close(teacher, by_hand)
    losses["distill.loss_nosy"].backward()
    assert model.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0
    assert "get_targets" not in vars(model.roi_head.bbox_head)


def test_nd_and_dkd_on_proposals() -> None:
    model = taught(method="nd")
    assert [(each.student, each.teachers) for each in model.distill.values()] == [
        (f"{CLASSIFIER}:in", [f"{CLASSIFIER}:in"]),
        (CLASSIFIER, [CLASSIFIER]),
    ]
    losses = model(**det_batch(model), mode="loss")
    means = model.distill["nd"].loss.loss.teacher
    assert means.mean.shape == (K + 1, 24)  # background is a class of the softmax
    assert {1, 7, K} == {*means.seen.nonzero().flatten().tolist()}
    assert losses["distill.loss_nd"] > 0
    assert losses["distill.loss_kl"] > 0
    value = (other := taught(dict(loss="dkd", student=CLASSIFIER)))(**det_batch(other), mode="loss")["distill.loss_dkd"]
    assert value > 0


def test_a_cache_and_what_has_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the student's proposals"):
        taught(dict(loss="kl", student=CLASSIFIER), teacher_cache="cache")
    with pytest.raises(ValueError, match="yields a row for each proposal"):
        taught(dict(loss="kl", student=CLASSIFIER), online=["teacher"])
    cascade, _ = build_model(two_stage(name="cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py"))
    joined = "roi_head.bbox_head.0.fc_cls+roi_head.bbox_head.1.fc_cls"
    with pytest.raises(ValueError, match="an entry for each stage of a cascade"):
        Distiller(student=cascade, teacher="ema", distills=[dict(loss="kl", student=joined)])
