"""`nd`: where it is tapped, and what a detector on digit scenes learns of it."""

from __future__ import annotations

from mmengine.config import Config

from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from ..conftest import CONFIGS
from .teaching import gap, scenes_of_objects


def test_one_stage_detectors_have_positions_and_segmenters_pixels(det: Config, seg: Config) -> None:
    student = build_model(det)[0]
    nd, kl = method_entries("nd", student, student)
    branch = "bbox_head.retina_cls"
    assert (nd["student"], kl["student"], kl["where"]) == (f"{branch}:in", branch, "boxes")
    assert len(method_entries(dict(type="nd", kl=0.0), student, student)) == 1
    student = build_model(seg)[0]
    nd, kl = method_entries(dict(type="nd", weight=2.0), student, student)
    assert (nd["student"], nd["weight"]) == ("decode_head.bottleneck", 2.0)
    assert (kl["student"], "where" in kl) == ("decode_head.conv_seg", False)


def test_objects_come_closer_to_the_means_of_their_class_than_by_labels_alone() -> None:
    method = dict(type="nd", weight=10.0, kl=0.0)
    taught, control = (
        gap(CONFIGS / "det.py", CONFIGS / "det_teacher.py", method, scenes_of_objects, taught=taught, steps=40)
        for taught in (True, False)
    )
    assert taught < 0.9 * control
