"""`last_map`: what a segmenter learns of a teacher beside its labels holds on images that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

import kdlosses
from densekd import Distiller
from densekd.datasets.digits import draw
from densekd.hub.ready import features_of
from densekd.mmlab.building import build_model

from ..conftest import CONFIGS


def scenes(model: Any, start: int, count: int, split: str) -> dict[str, Any]:
    drawn = [draw(n, split, size=64) for n in range(start, start + count)]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(each.mask)[None].long())) for each in drawn]
    images = [torch.from_numpy(np.ascontiguousarray(each.image[..., ::-1].transpose(2, 0, 1))) for each in drawn]
    return model.data_preprocessor({"inputs": images, "data_samples": samples}, True)


def trained(weight: float) -> float:
    """The distance to the teacher on unseen scenes; with weight 0 the head alone is taught: the control."""
    torch.manual_seed(0)
    student, _ = build_model(CONFIGS / "seg.py")
    method = dict(type="last_map")
    model: Any = Distiller(student=student, teacher=features_of("lite0"), method=method)
    entry = next(iter(model.distill.values()))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for step in range(25):
        batch = scenes(model, 4 * step, 4, "train")
        losses = model(**batch, mode="loss")
        labels = losses["decode.loss_ce"]
        hint = losses["distill.loss_pkd"]
        optimiser.zero_grad()
        if not weight:  # the head learns what the backbone offers, the backbone learns labels alone
            heads = list(entry.parameters())
            gradients = torch.autograd.grad(hint, heads, retain_graph=True)
            labels.backward()
            for parameter, gradient in zip(heads, gradients):
                parameter.grad = gradient
        else:
            (labels + hint).backward()
        optimiser.step()
    model.train()
    with torch.no_grad():
        found = model(**scenes(model, 0, 8, "val"), mode="loss")["distill.loss_pkd"]
    return found.item()


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    assert trained(1.0) < trained(0.0)


def test_its_taps() -> None:
    from densekd.methods import method_entries

    student, _ = build_model(CONFIGS / "seg.py")
    (entry,) = method_entries("last_map", student, features_of(nn.Conv2d(3, 4, 8, stride=8)))
    assert (entry["student"], entry["teacher"]) == ("backbone:-1", "maps:-1")
    (entry,) = method_entries(dict(type="last_map", weight=2.0), student, student)
    assert (entry["teacher"], entry["weight"]) == ("backbone:-1", 2.0)
    assert entry["loss"] in kdlosses.LOSSES
    with pytest.raises(ValueError, match="no backbone"):
        method_entries("last_map", nn.Conv2d(3, 4, 8), student)
