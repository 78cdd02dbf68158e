"""`af_dcd`: its taps, what it refuses, and what a segmenter on digit scenes learns of it."""

from __future__ import annotations

from typing import Any

import pytest
from contract.entry import MethodContract
from mmengine.config import Config

from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from ..conftest import CONFIGS
from .teaching import gap, scenes_of_pixels

CONTRACT = MethodContract("af_dcd", options=dict(pool=1))  # on images of 64 pixels


def test_entries(seg: Config) -> None:
    student, _ = build_model(seg)
    kd, contrast = method_entries(dict(type="af_dcd", kd=0.5, pool=1), student, student)
    assert (kd["student"], kd["weight"], kd["loss"]) == ("decode_head.conv_seg", 0.5, "kl")
    assert (contrast["student"], contrast["loss"]["pool"], contrast["loss"]["contrast"]) == ("backbone:-1", 1, 0.005)


def test_a_detector_is_refused(det: Config) -> None:
    student, _ = build_model(det)
    with pytest.raises(ValueError, match="'af_dcd' needs class logits per pixel"):
        method_entries("af_dcd", student, student)


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    method: dict[str, Any] = dict(type="af_dcd", kd=0.0, feature=1.0, contrast=0.1, pool=1)
    taught, control = (
        gap(CONFIGS / "seg.py", CONFIGS / "seg_teacher.py", method, scenes_of_pixels, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.98 * control
