"""`fbkd`: levels and windows of detectors, and what a detector on digit scenes learns of it."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config

from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from ..conftest import CONFIGS
from .teaching import gap, scenes_of_objects


def test_entries_of_a_one_stage_and_of_a_two_stage_detector(det: Config) -> None:
    student, _ = build_model(det)
    entries = method_entries("fbkd", student, student)
    assert [entry["student"] for entry in entries] == [f"neck:{i}" for i in range(5)]
    assert [entry["loss"]["pool"] for entry in entries] == [4, 2, 2, 2, 2]
    student.roi_head = torch.nn.Identity()
    fewer = method_entries(dict(type="fbkd", tau=0.8, weight=2.0), student, student)
    assert [entry["loss"]["pool"] for entry in fewer] == [8, 4, 2, 2]
    assert (fewer[0]["loss"]["tau"], fewer[0]["weight"]) == (0.8, 2.0)


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    method: dict[str, Any] = dict(type="fbkd", weight=100.0)
    taught, control = (
        gap(CONFIGS / "det.py", CONFIGS / "det_teacher.py", method, scenes_of_objects, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.9 * control
