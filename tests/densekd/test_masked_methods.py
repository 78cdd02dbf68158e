"""Methods that mask features, on the families of mmseg and mmdet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config

from densekd import Distiller
from densekd.methods import method_entries
from densekd.mmlab.building import build_model

from .conftest import det_batch, seg_batch
from .test_methods import config_of

METHODS = ("mgd", "maskd", "acam")


def check(model: Distiller, batch: dict[str, Any], terms: list[str]) -> None:
    """The terms are there, they teach the student, and what is learned beside it gets a gradient."""
    losses = model(**batch, mode="loss")
    assert list(model.distill) == terms
    values = [losses[f"distill.loss_{term}"] for term in terms]
    assert all(value > 0 for value in values)
    torch.stack(values).sum().backward(retain_graph=True)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())
    total, _ = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", METHODS)
def test_a_segmenter(taught: Callable[..., Distiller], method: str) -> None:
    model = taught(method=method).train()
    check(model, seg_batch(model), [method])


@pytest.mark.parametrize("method", METHODS)
def test_each_level_of_a_neck(det: Config, det_teacher: dict[str, str], method: str) -> None:
    model = Distiller(student=det, **det_teacher, method=method).train()
    check(model, det_batch(model), [f"{method}_{i}" for i in range(5)])


@pytest.mark.parametrize(
    ("path", "first", "share"),
    [
        ("retinanet/retinanet_r18_fpn_1x_coco.py", 2e-5 * 100 * 167, 0.65),
        ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", 5e-7 * 200 * 334, 0.45),
    ],
)
def test_mgd_has_the_published_weights(path: str, first: float, share: float) -> None:
    model, _ = build_model(config_of("mmdet", path))
    entries = method_entries("mgd", model, model)
    assert [entry["student"] for entry in entries] == [f"neck:{i}" for i in range(5)]
    assert entries[0]["weight"] == pytest.approx(first, rel=0.01)
    assert entries[4]["weight"] == pytest.approx(first / 4**4, rel=0.01)
    assert {entry["loss"]["share"] for entry in entries} == {share}
