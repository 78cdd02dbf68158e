"""The synthetic world: what the sensors see is where the boxes are; as a data set of mmdet3d; its measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from shapely.geometry import MultiPoint

from densekd import build_model, read_config
from densekd.bev import world
from densekd.bev.dataset import SyntheticWorld
from densekd.sensors.geometry import nine_points

CONFIGS = Path(__file__).parents[3] / "configs" / "bev"


def in_box(points: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """Which points lie in a box that grew by a margin."""
    x, y, z, length, width, height, yaw = box.astype(float)
    local = (points[:, 0] - x + 1j * (points[:, 1] - y)) * np.exp(-1j * yaw)
    level = points[:, 2] - z
    return (
        (abs(local.real) <= length / 2 + margin)
        & (abs(local.imag) <= width / 2 + margin)
        & (level >= -margin)
        & (level <= height + margin)
    )


def test_a_scene_is_the_same_again_and_others_are_not() -> None:
    again, scene = world.draw(3, "train"), world.draw(3, "train")
    assert all(np.array_equal(a, b) for a, b in zip(scene, again))
    for other in (world.draw(4, "train"), world.draw(3, "val"), world.draw(3, "train", seed=1)):
        assert not np.array_equal(scene.image, other.image)
    with pytest.raises(ValueError, match="no split is called 'trian'"):
        world.draw(0, "trian")


def test_points_lie_on_the_objects_and_none_inside() -> None:
    for index in range(8):
        scene = world.draw(index, "val")
        assert (scene.hits >= 3).all()
        above = scene.points[scene.points[:, 2] > world.GROUND + 0.15]
        on = np.zeros(len(above), bool)
        for box, hits in zip(scene.boxes, scene.hits):
            shell = in_box(scene.points, box, 0.1)
            assert (shell & ~in_box(scene.points, box, -0.1)).sum() >= 0.9 * hits
            assert in_box(scene.points, box, -0.1).sum() == 0  # walls are not seen through
            on |= in_box(above, box, 0.1)
        assert on.mean() > 0.5  # others are on objects that too few rays or pixels met


def test_the_camera_sees_an_object_where_its_box_projects_to() -> None:
    """A box alone, rendered: the pixels that show it are those inside of its projected outline."""
    box = np.array([[12.0, 3.0, world.GROUND, 4.0, 2.0, 1.6, 0.6]])
    _, seen = world._render(np.random.default_rng(0), box, np.array([[1.0, 0, 0]]))
    corners = nine_points(torch.from_numpy(box[:, [0, 1, 3, 4, 6]]))[0, [0, 2, 6, 8]].numpy()
    corners = np.array([[*xy, z] for xy in corners for z in (world.GROUND, world.GROUND + 1.6)])
    projected = (world.CAM2IMG @ world.LIDAR2CAM @ np.c_[corners, np.ones(8)].T)[:3]
    outline = MultiPoint((projected[:2] / projected[2]).T).convex_hull
    height, width = world.IMAGE
    shown = np.argwhere(seen.reshape(height, width) == 0)[:, ::-1] + 0.5
    assert len(shown) == pytest.approx(outline.area, rel=0.05)
    assert all(outline.buffer(1e-6).contains(point) for point in MultiPoint(shown).geoms)


def test_rays_against_brute_force() -> None:
    """Walk along each ray in small steps until it is inside of a box or under the ground."""
    rng = np.random.default_rng(1)
    boxes = world.draw(2, "train").boxes.astype(float)
    angles = np.stack([rng.uniform(-0.8, 0.8, 60), rng.uniform(-0.3, 0.02, 60)])
    rays = np.stack([np.ones(60), np.tan(angles[0]), np.tan(angles[1])], 1)
    times, met, normals = world.cast(np.zeros(3), rays, boxes)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    steps = np.arange(0, 40, 0.02)
    for ray, time, what in zip(rays, times, met):
        path = ray * steps[:, None]
        inside = [in_box(path, box, 0) for box in boxes] + [path[:, 2] <= world.GROUND]
        first = [steps[hit.argmax()] if hit.any() else np.inf for hit in inside]
        if min(first) < np.inf:
            assert time == pytest.approx(min(first), abs=0.1)
            assert what == (int(np.argmin(first)) if np.argmin(first) < len(boxes) else world.PLANE)
        elif what == world.SKY:
            assert ray[2] >= 0


@pytest.mark.parametrize("sensor", ["lidar", "camera", "fusion"])
def test_detectors_train_and_predict(sensor: str) -> None:
    config = read_config(CONFIGS / "plain" / f"{sensor}_world.py")
    config.train_dataloader.batch_size = 2
    torch.manual_seed(0)
    model, _ = build_model(config)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        batch = next(iter(Runner.build_dataloader(config.train_dataloader, seed=0)))
        sample = batch["data_samples"][0]
        assert {"cam2img", "lidar2cam", "lidar2img", "img_path", "lidar_path"} <= set(sample.metainfo_keys())
        assert sample.gt_instances_3d.bboxes_3d.tensor.shape[1] == 9
        losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
        for name, parameter in model.named_parameters():  # SECOND and the FPN have parts that nobody reads
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
        assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()) > 40
        test = next(iter(Runner.build_dataloader(config.test_dataloader, seed=0)))
        found = model.test_step(test)[0]
        assert found.pred_instances_3d.bboxes_3d.tensor.shape[1] == 9
        assert len(found.eval_ann_info["gt_labels_3d"]) > 0


def test_what_a_detector_lacks_is_named() -> None:
    from densekd.bev.detector import BEVDetector

    with pytest.raises(ValueError, match=r"LiDAR.*camera.*or both"):
        BEVDetector()
    config = read_config(CONFIGS / "plain" / "fusion_world.py")
    model, _ = build_model(config)
    points = [torch.rand(50, 4) * 10]
    inputs = {"points": points, "voxels": model.data_preprocessor.voxelize(points, [None])}
    with pytest.raises(ValueError, match=r"needs imgs, but this batch has only points, voxels.*'img'"):
        model(inputs, [], mode="tensor")
    camera, _ = build_model(read_config(CONFIGS / "plain" / "camera_world.py"))
    with pytest.raises(KeyError, match=r"LiftSplat needs 'cam2img'.*meta_keys"):
        camera.view_transform(torch.zeros(1, 32, 24, 48), [{}], (96, 192))


def test_a_world_that_cannot_be_is_refused_when_it_is_built() -> None:
    with pytest.raises(ValueError, match="no split is called 'trian'; known: train, val, test"):
        SyntheticWorld(split="trian", pipeline=[])
    for past in (0.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="past is a time before the scene in seconds, above 0, got"):
            SyntheticWorld(past=past, pipeline=[])
