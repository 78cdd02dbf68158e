"""Methods on features of detectors: they teach each kind of detector, one-stage and two-stage, from a wider one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from densekd import Distiller, read_config
from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from .conftest import CONFIGS, det_batch
from .test_assigned import HEADS, detector
from .test_proposals import two_stage

METHODS = "acam", "fbkd", "fgd", "maskd", "mgd", "nd", "pkd"
TWO_STAGE = {
    "faster": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "mask": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
}


def one_stage(head: str, width: int) -> nn.Module:
    config = Config.fromfile(CONFIGS / "det.py")
    detector(config, head)
    config.model.neck.out_channels = width
    config.model.bbox_head.update(in_channels=width, feat_channels=width)
    return build_model(config)[0]


def reppoints(width: int) -> nn.Module:
    config = read_config("mmdet::reppoints/reppoints-moment_r50_fpn_1x_coco.py")
    model = config.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, norm_cfg=dict(type="BN"))
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=width)
    model.bbox_head.update(
        in_channels=width, feat_channels=width, point_feat_channels=width, stacked_convs=1, num_classes=10
    )
    return build_model(config)[0]


def of_stages(name: str, width: int) -> nn.Module:
    config = two_stage(width, TWO_STAGE[name])
    mask = config.model.roi_head.get("mask_head")
    if mask is not None:
        mask.update(in_channels=width, conv_out_channels=8, num_convs=1, num_classes=10)
        config.model.roi_head.mask_roi_extractor.out_channels = width
    return build_model(config)[0]


def build(kind: str, width: int) -> nn.Module:
    if kind in TWO_STAGE:
        return of_stages(kind, width)
    return reppoints(width) if kind == "reppoints" else one_stage(kind, width)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("kind", ["RetinaHead", *HEADS, "reppoints", *TWO_STAGE])
def test_a_step_of_each_method(kind: str, empty: bool) -> None:
    """All methods in one step: each has a value and moves the neck, also where one image, or all, has no box."""
    torch.manual_seed(0)
    student, teacher = build(kind, 16), build(kind, 24)
    entries: list[dict[str, Any]] = []
    for name in METHODS:
        if (name, kind) == ("nd", "cascade"):
            with pytest.raises(ValueError, match="with one box head on both sides; the student, a CascadeRCNN, has no"):
                method_entries(name, student, teacher)
            continue
        found = method_entries(name, student, teacher)
        entries += [{**entry, "name": f"{name}_{i}"} for i, entry in enumerate(found)]
    model = Distiller(student=student, teacher=teacher, distills=entries)
    batch = det_batch(model)
    for sample in batch["data_samples"][1 - empty :]:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    for sample in batch["data_samples"] if kind == "mask" else ():
        sample.gt_instances.masks = BitmapMasks(np.ones((len(sample.gt_instances), 96, 96), np.uint8), 96, 96)
    losses = model(**batch, mode="loss")
    total, values = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for entry in entries:
        value = values[f"distill.loss_{entry['name']}"]
        of_objects = entry["name"].startswith("nd")  # it counts where an object is
        assert value.isfinite()
        assert value > 0 or of_objects, entry["name"]
    taught = {entry["name"].partition("_")[0] for entry in entries}
    assert taught == {*METHODS} - ({"nd"} if kind == "cascade" else set())
