"""What training leaves serves without this package: as weights for mmseg, and as an ONNX model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from densekd import Distiller
from densekd.cli import export
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config
from densekd.taps.reader import Taps

ROOT = Path(__file__).parents[2] / "configs" / "seg"
FPN = ROOT / "cwd" / "digits.py"
MEAN = [123.675, 116.28, 103.53]


def train(student: Config, path: Path) -> nn.Module:
    """A student two steps on its way, with a connector of its own, saved as mmengine saves it."""
    entries = [{"loss": {"type": "vid"}, "student": "backbone:1"}]
    model = Distiller(student=student, teacher="ema", distills=entries)
    model = revert_sync_batchnorm(model)
    model.data_preprocessor.size, model.data_preprocessor.size_divisor = (64, 64), None
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(11, (1, 64, 64))))
    batch = {"inputs": [torch.randint(256, (3, 64, 64), dtype=torch.uint8)] * 2, "data_samples": [sample] * 2}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode="loss"))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert any(key.startswith("distill.") for key in model.state_dict())
    meta = {"dataset_meta": {"classes": ("sky", "road")}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
    return model.eval()


def predict(model: nn.Module) -> torch.Tensor:
    image = torch.randint(256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    sample = SegDataSample(metainfo=dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (64, 64)))
    with torch.no_grad():
        (result,) = model.test_step({"inputs": [image], "data_samples": [sample]})
    return result.seg_logits.data


def segformer(path: Path) -> Path:
    """Write the config of a thin SegFormer, from mmseg's own."""
    path.write_text(
        '_base_ = "mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py"\n'
        "model = dict(\n"
        "    backbone=dict(init_cfg=None, embed_dims=8, num_heads=[1, 2, 4, 8], num_layers=[1, 1, 1, 1]),\n"
        "    decode_head=dict(in_channels=[8, 16, 32, 64], channels=16, num_classes=11),\n"
        ")\n"
    )
    return path


def test_weights_of_a_taught_student_are_those_of_a_plain_one(tmp_path: Path) -> None:
    taught = train(read_config(ROOT / "plain" / "semantic_fpn_r18_w16_digits.py"), tmp_path / "iter_2.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_2.pth"))
    Config.fromfile(FPN).dump(tmp_path / "digits.py")
    export.main([str(tmp_path), "--weights", str(tmp_path / "student.pth")])  # config and checkpoint of the work_dir
    with pytest.raises(SystemExit, match="no crop size: give --size H W"):
        export.main([str(tmp_path), "--out", str(tmp_path / "student.onnx")])
    plain, _ = build_model(read_config(ROOT / "plain" / "semantic_fpn_r18_w16_digits.py"))
    loaded = load_checkpoint(plain, str(tmp_path / "student.pth"), strict=True)
    assert torch.equal(predict(plain.eval()), predict(taught))
    assert loaded["meta"]["dataset_meta"]["classes"] == ("sky", "road")


@pytest.mark.parametrize("family", ["semantic FPN", "SegFormer"])
def test_onnx_answers_as_torch(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = FPN if family == "semantic FPN" else segformer(tmp_path / "segformer.py")
    student = read_config(config)
    student.model = student.model.get("student", student.model)
    model = train(student, tmp_path / "iter_2.pth")
    resized = family == "semantic FPN"
    options = ["--size", "64", "64", "--check", *([] if resized else ["--head-size"])]
    export.main([str(tmp_path / "iter_2.pth"), str(config), "--out", str(tmp_path / "student.onnx"), *options])
    assert "greatest difference from torch" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = model(images, mode="tensor")
            if resized:
                expected = nn.functional.interpolate(expected, size=(64, 64), mode="bilinear")
        (found,) = session.run(["logits"], {"images": images.numpy()})
        assert found.shape == (batch, expected.shape[1], *([64, 64] if resized else [16, 16]))
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)
    told = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert told["classes"] == ["sky", "road"]
    assert told["bgr_to_rgb"] is True
    np.testing.assert_allclose(told["mean"], MEAN, rtol=1e-6)
    answer = export.Answer(model, (64, 64), resized)
    assert export.difference(answer, tmp_path / "student.onnx") < 1e-4
    nn.init.ones_(model.decode_head.conv_seg.bias)
    assert export.difference(answer, tmp_path / "student.onnx") > 0.1


def test_a_student_of_leaf_keeps_its_output_layer(tmp_path: Path) -> None:
    """Its embeddings are those that the loss compares with the teacher's, in ONNX and beside the weights."""
    config = read_config(FPN)
    entry = dict(loss="leaf", student="neck:1", name="space")
    config.model.update(distills=[entry], method=None)
    config.dump(tmp_path / "digits.py")
    torch.manual_seed(0)
    student = read_config(ROOT / "plain" / "semantic_fpn_r18_w16_digits.py")
    model = Distiller(student=student, teacher=config.model.teacher, distills=[entry], checkpoint="random")
    model = revert_sync_batchnorm(model).eval()
    teacher = revert_sync_batchnorm(model.teachers["teacher"].model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "iter_1.pth")
    out, weights = tmp_path / "student.onnx", tmp_path / "student.pth"
    given = [str(tmp_path / "iter_1.pth"), str(tmp_path / "digits.py")]
    export.main([*given, "--out", str(out), "--weights", str(weights), "--size", "64", "64", "--check"])
    images = torch.randn(2, 3, 64, 64)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(["embeddings"], {"images": images.numpy()})
    with torch.no_grad(), Taps(model, ["neck:1"]) as mine:
        model(images, mode="tensor")
        with Taps(teacher, ["neck:1"]) as its:
            teacher.eval()(images, mode="tensor")
        features = mine["neck:1"][0]
        space = model.distill["space"].loss.loss.output(features)
        assert found.shape == its["neck:1"][0].shape  # of the teacher's width, which is twice the student's
    np.testing.assert_allclose(found, space.numpy(), atol=1e-4)
    layer = torch.load(weights)["embeddings"]
    assert layer["tap"] == "neck:1"
    by_hand = torch.einsum("oc,bchw->bohw", layer["weight"], features) + layer["bias"][:, None, None]
    np.testing.assert_allclose(found, by_hand.numpy(), atol=1e-4)


@pytest.mark.parametrize(("channels", "mean"), [(1, None), (1, [127.0]), (3, [127.0]), (4, None), (6, None)], ids=str)
def test_images_have_as_many_channels_as_in_training(channels: int, mean: list[float] | None, tmp_path: Path) -> None:
    config = read_config(ROOT / "plain" / "semantic_fpn_r18_w16_digits.py")
    config.model.backbone.in_channels = channels
    config.model.data_preprocessor.update(mean=mean, std=mean, bgr_to_rgb=False)
    config.dump(tmp_path / "student.py")
    model, _ = build_model(config)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "student.pth")
    answer = export.answer_of(revert_sync_batchnorm(model).eval(), (32, 64), True)
    assert answer.channels == channels
    assert answer.images(2).shape == (2, channels, 32, 64)
    if channels == 4:
        call = [str(tmp_path / "student.pth"), "--out", str(tmp_path / "student.onnx"), "--size", "32", "64", "--check"]
        export.main(call)
        session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].shape[1:] == [4, 32, 64]
        told = session.get_modelmeta().custom_metadata_map
        assert {key: json.loads(told[key]) for key in ("channels", "mean", "std", "bgr_to_rgb")} == {
            "channels": 4, "mean": None, "std": None, "bgr_to_rgb": False
        }  # fmt: skip


def test_a_size_that_the_student_does_not_take_is_named() -> None:
    model = nn.Module()
    model.encode_decode = lambda images, meta: images.reshape(-1, 3, 5, 5)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"does not run on images of 4x4 \(3 channels: shape "):
        export.answer_of(model, (4, 4), True)


def test_what_is_wrong_with_the_command_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([], "give --out, --weights or both"),
        (["--out", str(tmp_path)], "exists; remove it"),
        (["--out", "a", "--weights", "a"], "both name a"),
        (["--out", "a", "--size", "0", "8"], "height and width"),
        (["--weights", "a", "--check"], "--check is of the ONNX model"),
    ):
        with pytest.raises(SystemExit):
            export.parse(["x.pth", *arguments])
        assert message in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="must hold one config, there is none"):
        export.config_in(tmp_path)
