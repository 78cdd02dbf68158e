"""PointDistiller between mmdet3d's detectors: on the frame of KITTI, and built where operators need a GPU."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd import Distiller, build_model, read_config
from densekd.methods import method_entries
from densekd.mmlab.blank import blank
from densekd.mmlab.samples import Context
from densekd.taps.reader import Taps, find
from densekd.term import Term

CONFIGS = Path(__file__).parents[3] / "configs" / "bev"
CONFIG = CONFIGS / "pointdistiller" / "pointpillars_kitti.py"


def quick(model: Any) -> Any:
    """The same detector with one convolution in each stage."""
    model.backbone.layer_nums = [0] * len(model.backbone.layer_nums)
    return model


def taught() -> Any:
    config = read_config(CONFIG)
    teacher = read_config(config.model.teacher)
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        torch.manual_seed(0)
        return Distiller(
            student=quick(config.model.student),
            teacher=quick(teacher.model),
            checkpoint="random",
            method=config.model.method,
        )


def plain(name: str) -> Any:
    return build_model(read_config(CONFIGS / "plain" / f"{name}.py"))[0]


@pytest.mark.data
def test_two_steps_on_a_real_frame(data_root: Path) -> None:
    config = read_config(CONFIG)
    folder = str(data_root / "mmdet3d-demo" / "kitti")
    dataset = config.train_dataloader.dataset
    dataset.pop("data_prefix")
    dataset.update(data_root=folder, ann_file="000008.pkl", data_prefix=dict(pts="", img=""))
    config.train_dataloader.update(batch_size=1, num_workers=0, persistent_workers=False)
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        batch = next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))
    model = taught()
    seen = model.data_preprocessor(batch, training=True)
    assert len(seen["inputs"]["voxels"]["coors"]) == 3945
    voxels = seen["inputs"]["voxels"]["voxels"].clone()
    model.teachers["teacher"].run(seen["inputs"], seen["data_samples"], ["voxel_encoder"])
    assert torch.equal(seen["inputs"]["voxels"]["voxels"], voxels)  # mmdet3d's encoder shifts points in place
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)
    values = []
    for _ in range(2):
        losses = model(**copy.deepcopy(seen), mode="loss")
        values.append(losses["distill.loss_pointdistiller"])
        optimiser.zero_grad()
        (alone,) = torch.autograd.grad(
            values[-1], find(model, "voxel_encoder.pfn_layers.0.linear").weight, retain_graph=True
        )
        assert alone.isfinite().all()
        assert alone.abs().sum() > 0
        model.parse_losses(losses)[0].backward()
        optimiser.step()
    assert values[0] > 0
    assert values[1] != values[0]
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith("distill.")}
    build_model(quick(read_config(CONFIG).model.student))[0].load_state_dict(weights)  # strict: all of them, no more
    learned = {key.removeprefix("distill.pointdistiller.") for key in model.state_dict()} - {*weights}
    assert {key for key in learned if "teacher" not in key} == {
        *(f"loss.loss.student.{part}" for part in ("of_neighbour.weight", "of_centre.weight", "scale", "shift"))
    }


def test_the_student_is_a_quarter_of_the_teacher() -> None:
    student, teacher = plain("pointpillars_half_kitti"), plain("pointpillars_kitti")
    sizes = [sum(p.numel() for p in model.parameters()) for model in (student, teacher)]
    assert sizes[0] / sizes[1] == pytest.approx(0.25, abs=0.01)
    (entry,) = method_entries("pointdistiller", student, teacher)
    assert (entry["student"], entry["teacher"], entry["weight"]) == ("voxel_encoder", "voxel_encoder", 2.0)


def test_counts_and_samples_come_from_the_batch() -> None:
    """A tap of as many rows as there are voxels is told of them; another tap is not."""
    voxels = {"coors": torch.tensor([[0, 0, 1, 1], [0, 0, 2, 1], [1, 0, 1, 1]]), "num_points": torch.tensor([5, 1, 2])}
    context = Context((), None, voxels=voxels)
    found = context.gather(["batch", "point_counts", "labels"], (), rows=3)
    assert {key: value.tolist() for key, value in found.items()} == {"batch": [0, 0, 1], "point_counts": [5, 1, 2]}
    assert context.gather(["batch", "point_counts"], (), rows=4) == {}
    assert context.gather(["batch", "point_counts"], (8, 8), rows=3) == {}
    assert Context((), None).gather(["batch", "point_counts"], (), rows=0) == {}


def test_unlike_voxels_are_refused() -> None:
    config = read_config(CONFIGS / "plain" / "pointpillars_kitti.py")
    config.model.data_preprocessor.voxel_layer.update(voxel_size=[0.32, 0.32, 4], max_num_points=20)
    teacher, _ = build_model(config)
    with pytest.raises(
        ValueError,
        match=r"voxel_size \(0.16, 0.16, 4.0\) and \(0.32, 0.32, 4.0\); max_num_points 32 and 20: give both the same",
    ):
        method_entries("pointdistiller", plain("pointpillars_half_kitti"), teacher)


def test_a_camera_has_no_voxels() -> None:
    with pytest.raises(ValueError, match="but the teacher, BEVDetector, takes none"):
        method_entries("pointdistiller", plain("lidar_world"), plain("camera_world"))


def test_second_is_matched_on_the_levels_of_its_backbone() -> None:
    """Its sparse convolutions have no operator for CPUs: the backbone runs on maps in their place."""
    models = []
    for channels in ([64, 128], [128, 256]):
        config = read_config("mmdet3d::second/second_hv_secfpn_8xb6-80e_kitti-3d-3class.py")
        config.model.backbone.out_channels = channels
        config.model.neck.in_channels = channels
        models.append(build_model(config)[0])
    entries = method_entries({"type": "pointdistiller", "importance": "count", "tau": 0.01}, *models)
    assert [(e["student"], e["name"]) for e in entries] == [
        ("backbone:0", "pointdistiller_cells_0"),
        ("backbone:1", "pointdistiller_cells_1"),
    ]
    maps = torch.rand(2, 256, 16, 12)
    student, teacher = (Taps(model, [entry["student"] for entry in entries]) for model in models)
    for model, taps in zip(models, (student, teacher)):
        with taps:
            model.backbone(maps)
    for entry in entries:
        assert entry["loss"]["crucial"] == entry["loss"]["neighbours"] == 256
        term, tap = Term.parse(entry), entry["student"]
        term.fit(student[tap], [teacher[tap]], None)
        value = term(student[tap], [[x.detach() for x in teacher[tap]]], Context((), None))
        (gradient,) = torch.autograd.grad(value, models[0].backbone.blocks[0][0].weight, retain_graph=True)
        assert value > 0
        assert gradient.abs().sum() > 0


def test_pointrcnn_is_matched_on_its_points_and_models_of_other_kinds_are_refused() -> None:
    config = read_config("mmdet3d::point_rcnn/point-rcnn_8xb2_kitti-3d-3class.py")
    model, _ = build_model(config)
    (entry,) = method_entries("pointdistiller", model, model)
    inputs, _ = blank(model, (64, 64))  # for the first look at its taps
    assert [(name, [x.shape for x in value]) for name, value in inputs.items()] == [("points", [(16384, 4)])]
    last = find(model, entry["student"])
    assert last is model.neck.FP_modules[-1]
    assert entry["loss"].keys() & {"crucial", "neighbours"} == set()
    term = Term.parse(entry)
    points, wide = torch.rand(2, 8, 40, requires_grad=True), torch.rand(2, 16, 40)  # as it yields them: (B, C, n)
    term.fit([points], [[wide]], None)
    assert term.loss.loss.student.of_centre.in_features == 8
    assert term([points], [[wide]], Context((), None)) > 0
    with pytest.raises(
        ValueError, match=r"points of the student \(PointRCNN\) with voxels of the teacher \(VoxelNet\)"
    ):
        method_entries("pointdistiller", model, plain("pointpillars_kitti"))
