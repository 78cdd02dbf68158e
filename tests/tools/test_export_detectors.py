"""What the head of a distilled one-stage detector tells, as an ONNX model from which boxes can be decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from densekd import Distiller, read_config
from densekd.cli import export
from densekd.mmlab.building import build_model

from ..densekd.conftest import CONFIGS, det_batch
from ..densekd.test_assigned import detector

DIGITS = Path(__file__).parents[2] / "configs" / "det"


def students() -> dict[str, tuple[Any, Any, Any]]:
    """Config of the student, of the teacher, and a method; GFL is that of the digit scenes."""
    fcos = Config.fromfile(CONFIGS / "det.py")
    detector(fcos, "FCOSHead")
    return {
        "RetinaHead": (Config.fromfile(CONFIGS / "det.py"), CONFIGS / "det_teacher.py", "pkd"),
        "FCOSHead": (fcos, "ema", "pkd"),
        "GFLHead": (
            read_config(DIGITS / "plain" / "gfl_r18_w16_digits.py"),
            DIGITS / "plain" / "gfl_r18_w32_digits.py",
            "ld",
        ),
    }


def trained(student: Any, teacher: Any, method: str, path: Path) -> Any:
    """Two steps on its way, saved as mmengine saves it."""
    torch.manual_seed(0)
    model: Any = Distiller(
        student=student, teacher=teacher, method=method, checkpoint=None if teacher == "ema" else "random"
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        loss, _ = model.parse_losses(model(**det_batch(model), mode="loss"))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    meta = {"dataset_meta": {"classes": tuple("0123456789")}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
    return model.eval()


@pytest.mark.parametrize("head", ["RetinaHead", "FCOSHead", "GFLHead"])
def test_levels_are_those_of_torch(head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student, teacher, method = students()[head]
    model = trained(student, teacher, method, tmp_path / "iter_2.pth")
    student.dump(tmp_path / "student.py")
    out = tmp_path / "student.onnx"
    export.main([str(tmp_path / "iter_2.pth"), "--out", str(out), "--size", "64", "96", "--check"])
    assert "greatest difference from torch" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    kinds = {"FCOSHead": ["classes", "boxes", "centerness"]}.get(head, ["classes", "boxes"])
    names = [each.name for each in session.get_outputs()]
    strides = [each if isinstance(each, int) else each[0] for each in model.bbox_head.prior_generator.strides]
    assert names == [f"{kind}_{i}" for kind in kinds for i in range(len(strides))]
    for batch in (1, 3):
        images = torch.randn(batch, 3, 64, 96)
        with torch.no_grad():
            expected = [level for each in model(images, mode="tensor") for level in each]
        found = session.run(None, {"images": images.numpy()})
        for name, one, other in zip(names, found, expected):
            assert len(one) == batch
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4, rtol=1e-4, err_msg=name)
    told = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert told["head"] == head
    assert told["strides"] == [[each, each] for each in strides]
    assert told["classes"] == [*"0123456789"]
    assert (told["bgr_to_rgb"], told["channels"], told["sigmoid"]) == (True, 3, True)
    np.testing.assert_allclose(told["mean"], model.data_preprocessor.mean.flatten(), rtol=1e-6)
    assert ("reg_max" in told, "anchors" in told) == (head == "GFLHead", head != "FCOSHead")
    if head == "RetinaHead":
        assert_boxes_are_found(session, told, model)
    with torch.no_grad():
        for weight in model.bbox_head.parameters():
            weight.add_(0.1)
    assert export.difference(export.answer_of(model, (64, 96), True), out) > 1e-2


def assert_boxes_are_found(session: Any, told: dict[str, Any], model: Any) -> None:
    """The best box of each image, decoded in NumPy by the metadata alone, is mmdet's."""
    image = torch.randint(256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    mean, std = (np.array(told[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    planes = image.numpy()[::-1] if told["bgr_to_rgb"] else image.numpy()
    outputs = session.run(None, {"images": ((planes - mean) / std)[None].astype(np.float32)})
    best: tuple[float, int, np.ndarray] = (-1.0, 0, np.zeros(4))
    for i, (sx, sy) in enumerate(told["strides"]):
        scores = outputs[i][0].reshape(len(told["anchors"][i]), -1, *outputs[i].shape[2:])
        deltas = outputs[len(told["strides"]) + i][0].reshape(len(scores), 4, *outputs[i].shape[2:])
        prior, label, y, x = np.unravel_index(scores.argmax(), scores.shape)
        x1, y1, x2, y2 = np.add(told["anchors"][i][prior], [x * sx, y * sy, x * sx, y * sy])
        dx, dy, dw, dh = deltas[prior, :, y, x] * told["coder"]["stds"] + told["coder"]["means"]
        cx, cy = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
        w, h = (x2 - x1) * np.exp(dw), (y2 - y1) * np.exp(dh)
        corners = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).clip(0, [96, 64, 96, 64])
        score = 1 / (1 + np.exp(-scores.max()))
        if score > best[0]:
            best = float(score), int(label), corners
    from mmdet.structures import DetDataSample

    shapes = dict.fromkeys(("img_shape", "ori_shape"), (64, 96))
    sample = DetDataSample(metainfo={**shapes, "scale_factor": (1.0, 1.0)})
    model.bbox_head.test_cfg.score_thr = 0.0
    model.data_preprocessor.pad_size_divisor = 1
    with torch.no_grad():
        found = model.test_step({"inputs": [image], "data_samples": [sample]})[0].pred_instances
    assert best[0] == pytest.approx(found.scores[0].item(), rel=1e-4)
    assert best[1] == found.labels[0].item()
    np.testing.assert_allclose(best[2], found.bboxes[0].numpy(), atol=1e-2)


def test_weights_of_a_two_stage_detector_are_what_can_be_had(tmp_path: Path) -> None:
    config = read_config(DIGITS / "plain" / "faster_rcnn_r18_w16_digits.py")
    config.dump(tmp_path / "student.py")
    model, _ = build_model(config)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "student.pth")
    call = [str(tmp_path / "student.pth"), "--size", "64", "64"]
    with pytest.raises(
        SystemExit, match=r"a FasterRCNN chooses boxes .* exported by --weights, for mmdet .* distilled"
    ):
        export.main([*call, "--out", str(tmp_path / "student.onnx")])
    assert not (tmp_path / "student.onnx").exists()
    export.main([str(tmp_path / "student.pth"), "--weights", str(tmp_path / "plain.pth")])
    weights: dict[str, Tensor] = torch.load(tmp_path / "plain.pth")["state_dict"]
    assert {*weights} == {*model.state_dict()}


def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path) -> None:
    det = Config.fromfile(CONFIGS / "det.py")
    det.dump(tmp_path / "student.py")
    torch.save({"state_dict": build_model(det)[0].state_dict()}, tmp_path / "student.pth")
    call = [str(tmp_path / "student.pth"), "--out", str(tmp_path / "student.onnx")]
    with pytest.raises(SystemExit, match="give --size H W"):
        export.main(call)
    with pytest.raises(SystemExit, match="a detector's levels have their own size"):
        export.main([*call, "--size", "64", "64", "--head-size"])
