from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from densekd.checkpoint import read
from densekd.mmlab.building import build_model, build_teacher
from densekd.sensors.normalisation import Renormalise
from densekd.teacher import MovingAverage, Teacher

from .conftest import seg_batch

Sources = dict[str, str]


@pytest.mark.parametrize("kind", ["path", "Path", "config", "inline", "module"])
def test_a_teacher_comes_from_anywhere(kind: str, seg_teacher: Sources) -> None:
    path, checkpoint = seg_teacher["teacher"], seg_teacher["checkpoint"]
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope("mmseg"):
        source = {
            "path": path,
            "Path": Path(path),
            "config": config,
            "inline": dict(config.model),
            "module": build_model(path)[0] if kind == "module" else None,
        }[kind]
        if kind == "module":
            source.load_state_dict(read(checkpoint)["state_dict"])
        teacher = build_teacher("teacher", source, None if kind == "module" else checkpoint)
    for key, value in read(checkpoint)["state_dict"].items():
        assert torch.equal(teacher.model.state_dict()[key], value)


@pytest.mark.parametrize(
    "source",
    [
        "mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py",
    ],
)
def test_a_teacher_comes_from_a_package(source: str) -> None:
    teacher = build_teacher("teacher", source, "random")
    assert type(teacher.model).__module__.startswith(source.split("::")[0])


def test_wrong_sources(seg: Config, seg_teacher: Sources) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no config nowhere\.py"):
        build_model("nowhere.py")
    with pytest.raises(ModuleNotFoundError, match="the package mmnothing is not installed"):
        build_model("mmnothing::a/b.py")
    with pytest.raises(TypeError, match="needs a 'type', got the keys 'backbone'"):
        build_model({"backbone": {}})
    with pytest.raises(ValueError, match="teacher 'big' has no weights"):
        build_teacher("big", seg_teacher["teacher"])
    with pytest.raises(ValueError, match=r"another architecture than EncoderDecoder: \d+ of \d+ keys matched"):
        build_teacher("big", seg, seg_teacher["checkpoint"])


def test_load_from_of_the_config_are_its_weights(seg_teacher: Sources) -> None:
    config = Config.fromfile(seg_teacher["teacher"])
    config.load_from = seg_teacher["checkpoint"]
    teacher = build_teacher("teacher", config)
    weight = read(seg_teacher["checkpoint"])["state_dict"]["decode_head.conv_seg.weight"]
    assert torch.equal(teacher.model.decode_head.conv_seg.weight, weight)


def test_frozen(seg_teacher: Sources) -> None:
    model, _ = build_model(seg_teacher["teacher"])
    teacher = Teacher("teacher", model.train())
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert copy.deepcopy([teacher])[0] is teacher


NORMALISATIONS = {
    "same": {},
    "other mean and deviation": {"mean": [1.0, 2.0, 3.0], "std": [10.0, 20.0, 30.0]},
    "other channel order": {"bgr_to_rgb": False},
    "all other": {"mean": [1.0, 2.0, 3.0], "std": [10.0, 20.0, 30.0], "bgr_to_rgb": False, "pad_val": 7},
    "none": {"mean": None, "std": None},
}


@pytest.mark.parametrize("options", NORMALISATIONS.values(), ids=NORMALISATIONS)
def test_teacher_sees_what_its_own_preprocessor_would_make(options: dict, seg: Config) -> None:
    config = dict(seg.model.data_preprocessor)
    with DefaultScope.overwrite_default_scope("mmseg"):
        mine, its = MODELS.build(config), MODELS.build({**config, **options})
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((64, 64), (40, 50))]  # one is padded
    student = _preprocess(mine, images)
    expected = _preprocess(its, images)["inputs"]
    got = Renormalise(mine, its)(student["inputs"], student["data_samples"])
    assert torch.allclose(got, expected, atol=1e-4)
    assert (got is student["inputs"]) == (not options)


def _preprocess(preprocessor: nn.Module, images: list[torch.Tensor]) -> dict:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = [SegDataSample() for _ in images]
    for sample, image in zip(samples, images):
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *image.shape[1:], dtype=torch.long))
    return preprocessor({"inputs": images, "data_samples": samples}, training=True)


def test_detector_padding(det: Config) -> None:
    from mmdet.structures import DetDataSample

    config = dict(det.model.data_preprocessor)
    with DefaultScope.overwrite_default_scope("mmdet"):
        mine = MODELS.build(config)
        its = MODELS.build({**config, "mean": [0.0] * 3, "std": [255.0] * 3, "bgr_to_rgb": False})
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((33, 64), (64, 40))]

    def batch(preprocessor: nn.Module) -> dict:
        samples = [DetDataSample(metainfo={"img_shape": tuple(image.shape[1:])}) for image in images]
        return preprocessor({"inputs": images, "data_samples": samples}, training=False)

    student = batch(mine)
    got = Renormalise(mine, its)(student["inputs"], student["data_samples"])
    assert torch.allclose(got, batch(its)["inputs"], atol=1e-5)


def test_unknown_preprocessors_must_be_equal() -> None:
    x = torch.rand(1, 3, 4, 4)
    assert Renormalise(nn.Identity(), nn.Identity())(x, None) is x
    other = MODELS.build({"type": "mmseg.SegDataPreProcessor", "size": (4, 4), "mean": [1] * 3, "std": [2] * 3})
    with pytest.raises(TypeError, match="cannot turn the input of Identity into that of SegDataPreProcessor"):
        Renormalise(nn.Identity(), other)


def test_moving_average_follows_its_formula(seg: Config) -> None:
    student, _ = build_model(seg)
    average = MovingAverage("ema", build_model(seg)[0], momentum=0.9)
    average.update(student)
    first = student.decode_head.conv_seg.weight.detach().clone()
    assert torch.equal(average.model.decode_head.conv_seg.weight, first)
    with torch.no_grad():
        student.decode_head.conv_seg.weight.add_(1.0)
        student.backbone.stem[1].running_mean.fill_(3.0)
    average.update(student)
    assert torch.allclose(average.model.decode_head.conv_seg.weight, first + 0.1)
    assert (average.model.backbone.stem[1].running_mean == 3).all()
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        MovingAverage("ema", student, momentum=1.0)


def test_moving_average_sees_the_students_input(seg: Config) -> None:
    student, _ = build_model(seg)
    batch = seg_batch(student)
    average = MovingAverage("ema", build_model(seg)[0])
    assert (
        Renormalise(student.data_preprocessor, average.model.data_preprocessor)(batch["inputs"], ()) is batch["inputs"]
    )
