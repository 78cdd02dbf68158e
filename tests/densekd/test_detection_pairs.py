"""Published pairs of detectors: their networks and methods, at a depth that a test has time for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope

from densekd import Distiller
from densekd.mmlab.config import read_config
from densekd.pairs import ROWS

from .conftest import det_batch

NAMES = sorted(name for name in ROWS if name.startswith("det/"))
QUICK = "det/fgd/faster_rcnn_x101_r50_coco.py", "det/fgd/fcos_r101_r50_coco.py"


def thin(model: Any) -> Any:
    """The same detector on a ResNet-18 without deformable convolutions and pre-trained weights."""
    model = copy.deepcopy(model)
    norm, style = model.backbone.norm_cfg, model.backbone.style
    model.backbone = dict(type="ResNet", depth=18, num_stages=4, out_indices=(0, 1, 2, 3), norm_cfg=norm, style=style)
    model.neck.in_channels = [64, 128, 256, 512]
    return model


@pytest.mark.parametrize("name", NAMES)
def test_what_a_config_says(name: str) -> None:
    config = read_config(name)
    assert config.model.checkpoint is None  # a path to be given
    assert {"data", "teacher", "student", "source", "distilled"} <= set(config.published)
    assert config.published.student[1] < config.published.distilled
    assert config.reported_on
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NAMES]
)
def test_a_step_teaches_each_student(name: str) -> None:
    config = read_config(name)
    student, teacher = config.model.student, read_config(config.model.teacher).model
    assert student.backbone.depth == 50
    assert teacher.backbone.depth == 101
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(0)
        model: Any = Distiller(
            student=thin(student), teacher=thin(teacher), checkpoint="random", method=config.model.method
        )
    model = revert_sync_batchnorm(model)
    losses = model(**det_batch(model), mode="loss")
    found = {key: value for key, value in losses.items() if key.startswith("distill.")}
    assert len(found) == (4 if hasattr(model, "roi_head") and ROWS[name].method == "fgd" else 5)
    assert all(value.isfinite() and value > 0 for value in found.values())
    torch.stack([*found.values()]).sum().backward()
    assert all(p.grad is not None for p in model.neck.parameters())
