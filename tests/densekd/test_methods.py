"""Named methods on the families of mmseg and mmdet, built from the packages' own configs, made thin for the test."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm

from densekd import Distiller, default_taps
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config

from .conftest import det_batch, seg_batch

SEGMENTERS = {
    "pspnet": "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py",
    "deeplabv3plus": "deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py",
    "ocrnet, a cascade": "ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py",
    "segformer, a transformer": "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
}
ONE_STAGE = {
    "retinanet": "retinanet/retinanet_r18_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
}


def config_of(package: str, path: str) -> Config:
    config = read_config(f"{package}::{path}")
    config.model.backbone.pop("init_cfg", None)
    return config


@pytest.mark.parametrize("path", SEGMENTERS.values(), ids=SEGMENTERS)
def test_segmenters(path: str) -> None:
    config = config_of("mmseg", path)
    classes = natural_classes(config)
    for method in ("cwd", "kl", "pkd"):
        model = revert_sync_batchnorm(Distiller(student=config, teacher="ema", method=method))
        (entry,) = method_entries(method, model, model)
        assert entry["student"] == default_taps(model)["features" if method == "pkd" else "logits"]
        losses = model(**seg_batch_of(model, min(classes, 11)), mode="loss")
        assert torch.isfinite(losses[f"distill.loss_{method}"])
        assert losses[f"distill.loss_{method}"].requires_grad


@pytest.mark.parametrize(
    ("path", "logits", "features"),
    [
        (SEGMENTERS["pspnet"], "decode_head.conv_seg", "decode_head.bottleneck"),
        (SEGMENTERS["deeplabv3plus"], "decode_head.conv_seg", "decode_head.sep_bottleneck"),
        (SEGMENTERS["ocrnet, a cascade"], "decode_head.1.conv_seg", "decode_head.1.bottleneck"),
        ("fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py", "decode_head.conv_seg", "decode_head.conv_cat"),
        ("upernet/upernet_r18_4xb2-40k_cityscapes-512x1024.py", "decode_head.conv_seg", "decode_head.fpn_bottleneck"),
        ("sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py", "decode_head.conv_seg", "neck"),
        ("point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py", "decode_head.0.conv_seg", "neck"),
    ],
)
def test_natural_taps(path: str, logits: str, features: str) -> None:
    model, _ = build_model(config_of("mmseg", path))
    assert default_taps(model) == {"logits": logits, "features": features}


def natural_classes(config: Config) -> int:
    head = config.model.decode_head
    return (head[-1] if isinstance(head, list) else head).num_classes


def seg_batch_of(model: torch.nn.Module, classes: int) -> dict:
    model.data_preprocessor.size = (64, 64)
    model.data_preprocessor.size_divisor = None
    return seg_batch(model)


@pytest.mark.parametrize("path", ONE_STAGE.values(), ids=ONE_STAGE)
def test_one_stage_detectors(path: str) -> None:
    config = config_of("mmdet", path)
    for method in ("cwd", "pkd"):
        model = Distiller(student=config, teacher="ema", method=method)
        assert len(model.distill[method].adapt) == 5
        losses = model(**det_batch(model), mode="loss")
        assert torch.isfinite(losses[f"distill.loss_{method}"])
        assert losses[f"distill.loss_{method}"].requires_grad


def test_two_stage_detector() -> None:
    config = config_of("mmdet", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py")
    config.model.backbone.update(depth=18)
    config.model.neck.in_channels = [64, 128, 256, 512]
    model = Distiller(student=config, teacher="ema", method="pkd")
    assert model.distill["pkd"].weight == 6.0
    losses = model(**det_batch(model), mode="loss")
    assert torch.isfinite(losses["distill.loss_pkd"])
    assert default_taps(model) == {"features": "neck"}  # its classifier sees proposals


def test_necks_of_unlike_width_are_connected(det: Config, det_teacher: dict[str, str]) -> None:
    model = Distiller(student=det, **det_teacher, method="pkd")
    assert [adapt.project.weight.shape[:2] for adapt in model.distill["pkd"].adapt] == [(32, 16)] * 5
    losses = model(**det_batch(model), mode="loss")
    assert losses["distill.loss_pkd"] > 0


def test_shared_head_gives_levels(det: Config, det_teacher: dict[str, str]) -> None:
    entry = {"loss": "mse", "student": "bbox_head.retina_cls"}
    model = Distiller(student=det, **det_teacher, distills=[entry])
    assert len(model.distill["mse"].adapt) == 5
    model(**det_batch(model), mode="loss")["distill.loss_mse"].backward()
    assert model.bbox_head.retina_cls.weight.grad.abs().sum() > 0


def test_teacher_stops_after_its_last_tap(det: Config, det_teacher: dict[str, str]) -> None:
    model = Distiller(student=det, **det_teacher, method="pkd")
    calls = []
    model.teachers["teacher"].model.bbox_head.register_forward_hook(lambda *args: calls.append(1))
    model(**det_batch(model), mode="loss")
    assert not calls


def test_kl_says_what_it_needs(det: Config) -> None:
    model, _ = build_model(det)
    with pytest.raises(ValueError, match="'kl' needs class logits per pixel, RetinaNet has none; use cwd or pkd"):
        method_entries("kl", model, model)


def test_a_model_without_natural_taps(det: Config) -> None:
    model, _ = build_model(det)
    del model.backbone, model.neck
    with pytest.raises(ValueError, match="RetinaNet has no default tap for features"):
        method_entries("pkd", model, model)
