"""UniDistill between the detectors of the world, in all directions, and on real frames of KITTI and nuScenes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd import Distiller, build_model, read_config
from densekd.methods import method_entries
from densekd.taps.bev import bev_extent, bev_taps, sensor_of

CONFIGS = Path(__file__).parents[3] / "configs" / "bev"
WORLD = {path.stem: path for path in sorted(CONFIGS.glob("unidistill/*_world.py"))}
NAMES = ("feature", "relation", "heatmap", "regression")


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    """Two frames of the world, as the loader hands them out."""
    return first_batch(read_config(WORLD["lidar_to_camera_world"]))


def first_batch(config: Config) -> dict[str, Any]:
    config.train_dataloader.update(batch_size=2, num_workers=0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))


def seen_by(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    return model.data_preprocessor(copy.deepcopy(batch), training=True)


def taught(config: Config, **options: Any) -> Any:
    fields = {key: value for key, value in config.model.items() if key != "type"}
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.manual_seed(0)
        return Distiller(**{**fields, "checkpoint": "random", **options})


@pytest.mark.parametrize("name", WORLD)
def test_every_direction_teaches_the_student_only(name: str, batch: dict[str, Any]) -> None:
    model = taught(read_config(WORLD[name]))
    teacher = model.teachers["teacher"].model
    source, student = name.removesuffix("_world").split("_to_")
    assert (sensor_of(teacher), sensor_of(model)) == (source, student)
    before = copy.deepcopy(teacher.state_dict())
    losses = model(**seen_by(model, batch), mode="loss")
    assert [key.removeprefix("distill.loss_") for key in losses if key.startswith("distill")] == [*NAMES]
    assert all(losses[f"distill.loss_{each}"] > 0 for each in NAMES)
    sum(losses[f"distill.loss_{each}"] for each in NAMES).backward()
    branch = model.pts_voxel_encoder if student == "lidar" else model.img_backbone
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in branch.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not any("teacher" in key for key in model.state_dict())


def test_weights_are_those_of_the_direction_and_options_come_first(batch: dict[str, Any]) -> None:
    models = {name: build_model(read_config(CONFIGS / "plain" / f"{name}_world.py"))[0] for name in ("lidar", "camera")}
    entries = method_entries("unidistill", models["camera"], models["lidar"])
    assert [(entry["name"], entry["weight"]) for entry in entries] == [*zip(NAMES, (100.0, 40.0, 10.0, 10.0))]
    entries = method_entries("unidistill", models["lidar"], models["camera"])
    assert [entry["weight"] for entry in entries] == [10.0, 5.0, 1.0, 1.0]
    (alone,) = method_entries({"type": "unidistill", "feature": 0, "response": 0}, models["camera"], models["lidar"])
    assert (alone["name"], alone["weight"]) == ("relation", 40.0)
    given = {"type": "unidistill", "teacher_range": [0, 0, 8, 8]}
    (loss, *_) = (entry["loss"] for entry in method_entries(given, models["camera"], models["lidar"]))
    assert (loss["teacher_range"], loss["student_range"]) == ((0, 0, 8, 8), (0, -16, 32, 16))


def test_a_perfect_student_costs_nothing_and_the_control_is_the_plain_student(batch: dict[str, Any]) -> None:
    config = read_config(CONFIGS / "plain" / "fusion_world.py")
    torch.manual_seed(0)
    plain, _ = build_model(config)
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        model = Distiller(student=copy.deepcopy(plain), teacher=copy.deepcopy(plain), method="unidistill").eval()
        losses = model(**seen_by(model, batch), mode="loss")
    expected = plain.eval()(**seen_by(plain, batch), mode="loss")
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)
    assert all(losses[f"distill.loss_{each}"] < 1e-5 for each in NAMES)


def test_frames_without_boxes_teach_nothing(batch: dict[str, Any]) -> None:
    model = taught(read_config(WORLD["lidar_to_camera_world"]))
    empty = seen_by(model, batch)
    for sample in empty["data_samples"]:
        sample.gt_instances_3d = sample.gt_instances_3d[torch.zeros(len(sample.gt_instances_3d), dtype=torch.bool)]
    losses = model(**empty, mode="loss")
    assert all(losses[f"distill.loss_{each}"] == 0 for each in NAMES)
    model.parse_losses(losses)[0].backward()


def test_missing_sensors_and_empty_clouds_are_named(batch: dict[str, Any]) -> None:
    model = taught(read_config(WORLD["lidar_to_camera_world"]))
    seen = seen_by(model, batch)
    points = seen["inputs"].pop("points")
    with pytest.raises(ValueError, match=r"teacher needs points, but this batch has only imgs.*'points'"):
        model(**seen, mode="loss")
    seen["inputs"]["points"] = [points[0], points[1] - 500]
    with pytest.raises(ValueError, match=r"the point cloud of train-\d+.bin is empty within the range"):
        model(**seen, mode="loss")
    model = taught(read_config(WORLD["camera_to_lidar_world"]))
    seen = seen_by(model, batch)
    del seen["inputs"]["imgs"]
    with pytest.raises(ValueError, match=r"teacher needs imgs, but this batch has only points, voxels.*'img'"):
        model(**seen, mode="loss")


def test_a_segmenter_has_no_map_of_the_ground() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="Linear has no known map of the ground, none of fusion_layer"):
        bev_taps(model)


def test_an_imvoxelnet_has_the_same_map_half_a_cell_off() -> None:
    """Its voxels are centred where PointPillars' pillars begin: only metres can tell."""
    config = read_config("mmdet3d::imvoxelnet/imvoxelnet_8xb4_kitti-3d-car.py")
    config.model.backbone.update(depth=18, init_cfg=None)
    config.model.neck.in_channels = [64, 128, 256, 512]
    student, _ = build_model(config)
    teacher, _ = build_model(read_config(CONFIGS / "plain" / "pointpillars_kitti.py"))
    mine, its = bev_extent(student), bev_extent(teacher)
    assert (mine.x0, its.x0) == (-0.16, 0)
    assert mine.x1 - mine.x0 == pytest.approx(its.x1 - its.x0)
    entries = method_entries("unidistill", student, teacher)
    assert [(entry["name"], entry["student"]) for entry in entries[:2]] == [
        ("feature", "neck_3d"),
        ("relation", "neck_3d"),
    ]
    assert [entry["name"] for entry in entries[2:]] == ["heatmap"]  # one class and three: other anchors


CAMERAS = [f"CAM_{side}" for side in ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")]
FRAMES = {
    "kitti": {
        "folder": "kitti",
        "dataset": dict(ann_file="000008.pkl", data_prefix=dict(pts="", img="")),
        "boxes": 4,
    },
    "nuscenes": {
        "folder": "nuscenes",
        "dataset": dict(
            ann_file="n015-2018-07-24-11-22-45+0800.pkl",
            data_prefix={"pts": "", **dict.fromkeys(CAMERAS, "")},
        ),
        "boxes": 30,
    },
}


@pytest.mark.data
@pytest.mark.parametrize("name", FRAMES)
def test_two_steps_on_a_real_frame(name: str, data_root: Path) -> None:
    """Whole detectors, on the frame as mmdet3d's own readers load it; the first step changes the second."""
    config = read_config(CONFIGS / "unidistill" / f"lidar_to_camera_{name}.py")
    frame = FRAMES[name]
    config.train_dataloader.dataset.pop("data_prefix")
    config.train_dataloader.dataset.update(
        data_root=str(data_root / "mmdet3d-demo" / frame["folder"]), **frame["dataset"]
    )
    config.train_dataloader.update(batch_size=1, num_workers=0, persistent_workers=False)
    config.model.student.img_backbone.init_cfg = None
    config.model.student.pts_backbone.layer_nums = [0] * len(config.model.student.pts_backbone.layer_nums)  # quick
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        batch = next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))
    model = taught(config)
    seen = seen_by(model, batch)
    assert len(seen["data_samples"][0].gt_instances_3d.bboxes_3d) >= frame["boxes"]
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-5)
    values = []
    for _ in range(2):
        losses = model(**copy.deepcopy(seen), mode="loss")
        terms = {key: value for key, value in losses.items() if key.startswith("distill.")}
        assert len(terms) == 4
        assert all(value.isfinite() and value > 0 for value in terms.values())
        total = sum(terms.values())
        optimiser.zero_grad()
        model.parse_losses(losses)[0].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
        values.append(total.item())
    assert values[1] != values[0]
