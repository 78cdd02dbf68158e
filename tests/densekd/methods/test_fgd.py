"""`fgd`: levels and weights of detectors, what it refuses, and what a detector on digit scenes learns of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config

from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from ..conftest import CONFIGS
from .teaching import gap, scenes_of_objects


def test_entries_of_a_one_stage_and_of_a_two_stage_detector(det: Config) -> None:
    student, _ = build_model(det)
    entries = method_entries("fgd", student, student)
    assert [entry["student"] for entry in entries] == [f"neck:{i}" for i in range(len(entries))]
    assert entries[0]["loss"] == dict(type="fgd", tau=0.5, alpha=1e-3, beta=5e-4, gamma=5e-4, lam=5e-6)
    student.roi_head = torch.nn.Identity()
    fewer = method_entries(dict(type="fgd", tau=0.8, weight=1.6), student, student)
    assert len(fewer) == len(entries) - 1
    assert fewer[0]["loss"] == dict(type="fgd", tau=0.8, alpha=5e-5, beta=2.5e-5, gamma=5e-5, lam=5e-7)
    assert fewer[0]["weight"] == 1.6


def test_a_segmenter_is_refused(seg: Config) -> None:
    student, _ = build_model(seg)
    with pytest.raises(ValueError, match="'fgd' needs boxes"):
        method_entries("fgd", student, student)


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    method: dict[str, Any] = dict(type="fgd", weight=30.0)
    taught, control = (
        gap(CONFIGS / "det.py", CONFIGS / "det_teacher.py", method, scenes_of_objects, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.9 * control
