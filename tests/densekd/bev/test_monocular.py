"""PKD and CWD between mmdet3d's monocular detectors, which predict boxes in the image and are tapped as mmdet's are."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd import Distiller, build_model, read_config

CONFIGS = Path(__file__).parents[3] / "configs" / "bev"


def thin(model: Config) -> Config:
    """The same detector on a ResNet-18 without deformable convolutions, which mmcv's CPU operators take minutes for."""
    model.backbone.update(depth=18, init_cfg=None, dcn=None, stage_with_dcn=(False,) * 4)
    model.neck.in_channels = [64, 128, 256, 512]
    return model


def taught(path: Path) -> Distiller:
    config = read_config(path)
    teacher = read_config(config.model.teacher)
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        torch.manual_seed(0)
        return Distiller(
            student=thin(config.model.student),
            teacher=thin(teacher.model),
            checkpoint="random",
            method=config.model.method,
        )


@pytest.mark.parametrize("detector", ["fcos3d_r101_r50_nuscenes", "pgd_r101_r50_kitti"])
@pytest.mark.parametrize("method", ["pkd", "cwd"])
def test_the_configs_tap_what_mmdet_taps(method: str, detector: str) -> None:
    path = CONFIGS / method / f"{detector}.py"
    model = taught(path)
    assert model.distill[method].student == "neck"
    student = read_config(path).model.student
    assert student.backbone.depth == 50
    assert read_config(read_config(path).model.teacher).model.backbone.depth == 101


@pytest.mark.data
@pytest.mark.parametrize("method", ["pkd", "cwd"])
def test_two_steps_on_the_frame_of_kitti(method: str, data_root: Path, tmp_path: Path) -> None:
    path = CONFIGS / method / "pgd_r101_r50_kitti.py"
    loader = read_config(path).train_dataloader
    folder = data_root / "mmdet3d-demo" / "kitti"
    info = pickle.loads((folder / "000008.pkl").read_bytes())
    for frame in info["data_list"]:  # monocular readers look for the instances of a camera there
        frame["cam_instances"] = {"CAM2": frame["instances"]}
    (tmp_path / "info.pkl").write_bytes(pickle.dumps(info))
    loader.dataset.update(data_root=str(folder), ann_file=str(tmp_path / "info.pkl"), data_prefix=dict(img=""))
    resize = next(step for step in loader.dataset.pipeline if step["type"] == "mmdet.Resize")
    resize["scale"] = (414, 125)
    loader.update(batch_size=1, num_workers=0, persistent_workers=False)
    model = taught(path)
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
        batch = model.data_preprocessor(batch, training=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    values = []
    for _ in range(2):
        losses = model(**batch, mode="loss")
        optimiser.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimiser.step()
        values.append(losses[f"distill.loss_{method}"].item())
    assert values[0] > 0
    assert values[1] != values[0]


def test_teachers_are_read_from_the_package() -> None:
    """mmdet3d's own config is the teacher: its released weights fit."""
    path = CONFIGS / "pkd" / "pgd_r101_r50_kitti.py"
    config = read_config(read_config(path).model.teacher)
    config.model.backbone.init_cfg = None
    model, _ = build_model(config)
    assert len(model.backbone.layer3) == 23
