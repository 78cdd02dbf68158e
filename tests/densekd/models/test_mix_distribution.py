"""Copies of another distribution, and a student that has to recognise what is in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from scipy.special import log_softmax

import densekd
from densekd.methods import method_entries
from densekd.models import MixDistributionPreProcessor
from densekd.models.mix_distribution import two_views

LIGHT = dict(mean=[0.0] * 3, std=[1.0] * 3, size=(8, 8))


def batch() -> dict[str, list[object]]:
    samples, images = [], []
    for n in range(3):
        sample = SegDataSample(metainfo={"img_shape": (8, 8)})
        sample.gt_sem_seg = PixelData(data=torch.full((1, 8, 8), n))
        samples.append(sample)
        images.append(torch.randint(40 * n, 40 * n + 5 + 40 * n, (3, 8, 8), dtype=torch.uint8))
    return {"inputs": images, "data_samples": samples}


def test_each_image_has_a_copy_with_statistics_between_its_own_and_those_of_another() -> None:
    torch.manual_seed(0)
    data = batch()
    found = MixDistributionPreProcessor(**LIGHT)(data, training=True)
    images, copies = found["inputs"][:3], found["inputs"][3:]
    assert torch.equal(images, torch.stack([each.float() for each in data["inputs"]]))  # type: ignore[attr-defined]
    labels = [each.gt_sem_seg.data.unique().tolist() for each in found["data_samples"]]
    assert labels == [[0], [1], [2]] * 2
    assert found["data_samples"][3] is not found["data_samples"][0]
    means = images.mean((2, 3))
    low, high = means.amin(0), means.amax(0)
    assert not torch.allclose(copies.mean((2, 3)), means)
    assert ((copies.mean((2, 3)) >= low - 1e-3) & (copies.mean((2, 3)) <= high + 1e-3)).all()
    for one, other in zip(images, copies):  # what is where stays
        for a, b in zip(one, other):
            assert np.corrcoef(a.flatten(), b.flatten())[0, 1] == pytest.approx(1.0, abs=1e-4)
    assert len(MixDistributionPreProcessor(**LIGHT)(batch(), training=False)["inputs"]) == 3
    with pytest.raises(ValueError, match="alpha must be positive"):
        MixDistributionPreProcessor(**LIGHT, alpha=0.0)


def test_a_position_is_to_be_found_in_its_copy() -> None:
    draw = torch.Generator().manual_seed(0)
    f = torch.randn(4, 6, 3, 3, generator=draw, dtype=torch.float64)
    rows = f.movedim(1, -1).reshape(36, 6).numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    one, copy = rows[:18], rows[18:]
    expected = -np.diag(log_softmax(copy @ one.T / 0.1, axis=1)).mean()
    assert two_views(f, torch.zeros(4, 1, 3, 3)).item() == pytest.approx(expected)
    assert two_views(torch.cat([f[:2], 3 * f[:2]]), f) < two_views(f, f)


def test_a_contrast_without_copies_is_named() -> None:
    config = densekd.read_config("densekd::seg/kd3/scenes")
    init_default_scope("mmseg")
    student, method = MODELS.build(config.model.student), config.model.method
    entries = method_entries(method, student, MODELS.build(densekd.read_config(config.model.teacher).model))
    assert [each["weight"] for each in entries if each.get("name") == "two_views"] == [0.01]
    config.model.student.of.data_preprocessor.type = "SegDataPreProcessor"
    with pytest.raises(ValueError, match="'kd3': contrast compares images with copies of another distribution"):
        method_entries(method, MODELS.build(config.model.student), student)
