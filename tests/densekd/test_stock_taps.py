"""The default taps of stock models fire, in training as for a teacher; what cannot be tapped says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from densekd import Distiller, default_taps, read_config
from densekd.mmlab.building import start_from
from densekd.mmlab.probe import blank_size, probe
from densekd.taps.reader import Taps

from .conftest import TinySegmenter, det_batch, seg_batch


def stock(path: str) -> Config:
    """The model of a stock config, without pretrained weights."""
    config = read_config(path)
    for node in nodes(config._cfg_dict):
        for key in ("init_cfg", "pretrained"):
            if key in node and (key == "pretrained" or (node[key] or {}).get("type") == "Pretrained"):
                node[key] = None
    config.load_from = None
    return config


def nodes(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from nodes(child)


def small(config: Config) -> Config:
    """A ResNet of 18 layers in place of a deeper one."""
    model = config.model
    model.backbone.depth = 18
    for part in [model.get("neck"), model.decode_head] if "decode_head" in model else [model.neck]:
        if part is not None and part.in_channels in ([256, 512, 1024, 2048], 2048):
            part.in_channels = 512 if part.in_channels == 2048 else [64, 128, 256, 512]
    return config


DETECTORS = {
    "rtmdet": ("rtmdet/rtmdet_tiny_8xb32-300e_coco.py", 3),
    "yolox": ("yolox/yolox_tiny_8xb8-300e_coco.py", 3),
}


@pytest.mark.parametrize(("path", "levels"), DETECTORS.values(), ids=DETECTORS)
def test_heads_with_a_classifier_for_each_level(path: str, levels: int) -> None:
    config = stock(f"mmdet::{path}")
    with DefaultScope.overwrite_default_scope("mmdet"):
        teacher = MODELS.build(config.model)
    tap = default_taps(teacher)["logits"]
    assert tap.count("+") == levels - 1
    model = Distiller(student=config, teacher=teacher, distills=[{"loss": "kl", "student": tap}])
    model.data_preprocessor.batch_augments = None
    losses = model(**det_batch(model), mode="loss")
    assert len(model.distill["kl"].adapt) == levels
    assert losses["distill.loss_kl"] > 0
    assert losses["distill.loss_kl"].requires_grad


def test_rows_of_proposals_are_not_compared_with_positions() -> None:
    config = small(stock("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"))
    with DefaultScope.overwrite_default_scope("mmdet"):
        teacher = MODELS.build(config.model)
    assert default_taps(teacher) == {"features": "neck"}
    entry = {"loss": "mse", "student": "roi_head.bbox_head.fc_cls", "teacher": "rpn_head.rpn_cls"}
    with pytest.raises(ValueError, match=r"'roi_head\.bbox_head\.fc_cls' yields a row for each proposal"):
        Distiller(student=config, teacher=teacher, distills=[entry])


SEGMENTERS = {
    "knet": ("knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py", "decode_head.kernel_update_head.2:0"),
    "pointrend": ("point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py", "decode_head.0.conv_seg"),
    "pidnet": ("pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py", "decode_head.conv_seg"),
    "mask2former": ("mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py", None),
    "segmenter": ("segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py", "decode_head.mask_norm"),
}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters_whose_heads_are_of_a_kind_of_their_own(name: str) -> None:
    path, logits = SEGMENTERS[name]
    config = stock(f"mmseg::{path}")
    if name == "knet":
        config.model.backbone.depth, config.model.auxiliary_head.in_channels = 18, 256
        config.model.decode_head.kernel_generate_head.in_channels = 512
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(config.model)
    taps = default_taps(model)
    assert taps.get("logits") == logits
    size = blank_size([model], [taps.values()])
    found = probe(model, taps.values(), size)
    assert size == (128, 128)
    assert all(tensor.ndim in (3, 4) for tensors in found.values() for tensor in tensors)
    if logits is not None:
        assert len(found[logits]) == 1
        assert model.num_classes in found[logits][0].shape[1:]
    # in training each yields as many
    with Taps(model, taps.values()) as seen:
        model.train()
        features = model.extract_feat(torch.zeros(2, 3, *size))
        heads = model.decode_head if isinstance(model.decode_head, nn.ModuleList) else [model.decode_head]
        if logits is not None:
            heads[0](features)
    assert {tap: len(seen[tap]) for tap in taps.values()} == {tap: len(found[tap]) for tap in taps.values()}


@pytest.mark.parametrize("channels", [1, 3, 4, 6, 12])
@pytest.mark.parametrize("known", [True, False])
def test_images_of_any_number_of_channels(channels: int, known: bool) -> None:
    seen: list[int] = []
    model: Any = TinySegmenter()
    model.backbone.stem = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
    if known and channels in (1, 3):
        model.data_preprocessor.mean = torch.zeros(channels, 1, 1)
    else:
        del model.data_preprocessor.mean
    model.backbone.stem.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[1]))
    probe(model, ["backbone"])
    assert seen == [channels]


def test_a_stem_of_folded_pixels() -> None:
    model: Any = TinySegmenter()
    model.backbone.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 1))
    assert probe(model, ["backbone"])["backbone"][0].shape == (1, 4, 64, 64)


class Called(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)])
        self.inner = nn.Sequential(nn.Conv2d(2, 2, 1))
        self.unused = nn.Conv2d(2, 2, 1)
        self.used = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor, samples: Any = None, mode: str = "tensor") -> Tensor:
        for level in self.levels:
            x = level(x)
        return self.used(self.inner.forward(x))


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("levels", r"a ModuleList is never called itself; tap its parts: 'levels\.0\+levels\.1'"),
        ("inner", r"called as a plain function; tap a module inside of it: inner\.0"),
        ("unused", r"did not call that module .*; nearest that were called: used"),
    ],
)
def test_a_silent_tap_says_why_and_what_else_there_is(tap: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=rf"tap '{tap}' of Called never fired: .*{message}"):
        probe(Called(), [tap])


def test_what_comes_after_the_last_tap_is_not_needed() -> None:
    model = TinySegmenter()
    model.decode_head.register_forward_pre_hook(fail)
    assert len(probe(model, ["backbone"])["backbone"]) == 1
    with pytest.raises(ZeroDivisionError):
        probe(model, ["decode_head.conv_seg"])


def fail(module: nn.Module, args: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["path", "config"])
def test_a_student_starts_from_what_its_config_loads(kind: str, seg: Config, tmp_path: Any) -> None:
    with DefaultScope.overwrite_default_scope("mmseg"):
        weights = MODELS.build(seg.model).state_dict()
    weights["decode_head.conv_seg.weight"] = weights["decode_head.conv_seg.weight"][:5]  # of other classes
    torch.save({"state_dict": weights}, tmp_path / "start.pth")
    seg.load_from = str(tmp_path / "start.pth")
    seg.dump(tmp_path / "student.py")
    source = str(tmp_path / "student.py") if kind == "path" else seg
    model = Distiller(student=source, teacher="ema", method="cwd")
    model.init_weights()  # as the runner does before it trains
    own, average = model.state_dict(), model.teachers["teacher"].model.state_dict()
    for key, value in weights.items():
        if key != "decode_head.conv_seg.weight":
            assert torch.equal(own[key], value), key
            assert torch.equal(average[key], value), key
    assert own["decode_head.conv_seg.weight"].std() < 0.02  # initialised as the head says
    losses = model(**seg_batch(model), mode="loss")
    assert torch.isfinite(losses["distill.loss_cwd"])


def test_weights_that_do_not_fit_at_all_are_refused(tmp_path: Any) -> None:
    torch.save({"state_dict": {"other.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no weights that fit the student, TinySegmenter"):
        start_from(TinySegmenter(), tmp_path / "other.pth")
