"""`sad`: where a network attends, stage by stage."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import nn

from densekd import Distiller, Taps, build_model
from densekd.methods import method_entries

from ..conftest import CONFIGS, det_batch
from .teaching import gap, scenes_of_pixels


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    taught, control = (
        gap(CONFIGS / "seg.py", CONFIGS / "seg_teacher.py", "sad", scenes_of_pixels, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.9 * control


def test_each_stage_and_each_level_of_them_pays_for_unlike_attention(det: Config) -> None:
    places = [*(f"backbone:{i}" for i in range(4)), *(f"neck:{i}" for i in range(3))]
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(0)
        student, teacher = (revert_sync_batchnorm(build_model(copy.deepcopy(det))[0]) for _ in range(2))
        model = Distiller(student=student, teacher=teacher, method="sad").eval()
    batch = det_batch(model)
    losses = model(**copy.deepcopy(batch), mode="loss")
    maps = []
    for net in (model, teacher.eval()):
        with torch.no_grad(), Taps(net, places) as taps:
            net(**copy.deepcopy(batch), mode="tensor")
        attention = [(taps[place][0].double().numpy() ** 2).mean(1).reshape(2, -1) for place in places]
        maps.append([each / np.linalg.norm(each, axis=1, keepdims=True) for each in attention])
    names = [*(f"sad_stage_{i}" for i in range(4)), *(f"sad_{i}" for i in range(3))]
    assert {key for key in losses if key.startswith("distill.")} == {f"distill.loss_{name}" for name in names}
    for name, mine, its in zip(names, *maps, strict=True):
        expected = 1000 * ((mine - its) ** 2).mean()
        assert losses[f"distill.loss_{name}"].item() == pytest.approx(expected, rel=1e-4)
        assert expected > 0


def test_backbones_of_unlike_stages_are_refused(det: Config) -> None:
    other = copy.deepcopy(det)
    other.model.backbone.out_indices = (1, 2, 3)
    other.model.neck.update(in_channels=[16, 32, 64], start_level=0)
    models = [build_model(each)[0] for each in (det, other)]
    with pytest.raises(ValueError, match="the student's yields 4, the teacher's 3; give both the same out_indices"):
        method_entries("sad", *models)


def test_a_network_without_a_backbone_has_its_features() -> None:
    nets = [nn.ModuleDict({"body": nn.Conv2d(3, 8, 3), "head": nn.Conv2d(8, 2, 1)}) for _ in range(2)]
    (entry,) = method_entries("sad", *nets)
    assert (entry["student"], entry["loss"]) == ("head:in", "at")


def test_a_neck_that_reads_one_map_is_one_level(det: Config) -> None:
    for model in (models := [build_model(det)[0] for _ in range(2)]):
        model.neck = nn.Identity()
        model.neck.in_channels = 64
    entries = method_entries("sad", *models)
    assert [each["name"] for each in entries] == [*(f"sad_stage_{i}" for i in range(4)), "sad"]
