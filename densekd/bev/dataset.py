"""The synthetic world as a data set of mmdet3d."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from mmdet3d.datasets import Det3DDataset
from mmdet3d.structures import LiDARInstance3DBoxes, LiDARPoints
from mmengine.dataset import BaseDataset

from densekd.bev import world
from densekd.registry import DATASETS


@DATASETS.register_module()
class SyntheticWorld(Det3DDataset):
    """Scenes of `densekd.bev.world.draw`: LiDAR points, one camera and boxes, drawn on access.

    An item has the fields of mmdet3d's info files, and already `points` and `img`: a pipeline begins with
    `LoadAnnotations3D`. Boxes have nine numbers, the last two a velocity, which mmdet3d's CenterPoint needs; without
    `past` it is 0.

    Args:
        split: 'train', 'val' or 'test'.
        count: number of scenes.
        seed: of the world, see `densekd.bev.world.draw`.
        past: seconds before the scene of which the LiDAR's points are added, objects moving in between; each point then
            has a fifth number, its age in seconds. The scene alone if not given.
        pipeline: of mmdet3d's transforms.
        test_mode: give the boxes to the metric, not to the model.

    Raises:
        ValueError: an unknown split, or a past that is not before the scene.

    >>> dataset = SyntheticWorld(split="test", count=3, pipeline=[], test_mode=True)
    >>> item = dataset[0]
    >>> item["points"].shape[1], item["img"].shape, item["eval_ann_info"]["gt_bboxes_3d"].tensor.shape[1]
    (4, (96, 192, 3), 9)
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        "classes": world.CLASSES,
        "palette": [(230, 159, 0), (86, 180, 233), (0, 158, 115)],
    }

    def __init__(
        self,
        split: world.Split = "train",
        count: int = 1000,
        seed: int = 0,
        past: float | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in world.SPLITS:
            raise ValueError(f"SyntheticWorld: no split is called {split!r}; known: {', '.join(world.SPLITS)}")
        if past is not None and not past > 0:
            raise ValueError(f"SyntheticWorld: past is a time before the scene in seconds, above 0, got {past}")
        self.split, self.count, self.seed, self.past = split, count, seed, past
        fixed = {"modality": {"use_lidar": True, "use_camera": True}, "data_prefix": {"pts": "", "img": ""}}
        super().__init__(default_cam_key="CAM_FRONT", filter_empty_gt=False, **fixed, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the scenes by number, without drawing them."""
        return [{"sample_idx": index} for index in range(self.count)]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Draw a scene, in the format of mmdet3d's info files."""
        info = BaseDataset.get_data_info(self, idx)
        if self.past is None:
            scene = world.draw(info["sample_idx"], self.split, self.seed)
            points, velocities = scene.points, np.zeros((len(scene.boxes), 2))
        else:
            scene, past = world.draw_moving(info["sample_idx"], self.split, self.seed, self.past)
            points, velocities = aged([scene.points, past.points], [0.0, self.past]), past.velocities
        marks = ["intensity", "age"][: points.shape[1] - 3]
        name = f"{self.split}-{info['sample_idx']:05}"
        height, width = world.IMAGE
        camera = {"cam2img": world.CAM2IMG, "lidar2cam": world.LIDAR2CAM, "height": height, "width": width}
        camera |= {"img_path": f"{name}.png", "lidar2img": world.CAM2IMG @ world.LIDAR2CAM}
        info["lidar_points"] = {"num_pts_feats": points.shape[1], "lidar_path": f"{name}.bin"}
        info["images"] = {"CAM_FRONT": camera}
        info["instances"] = [
            {"bbox_3d": [*box, *velocity], "bbox_label_3d": int(label), "num_lidar_pts": int(hits)}
            for box, velocity, label, hits in zip(scene.boxes.tolist(), velocities.tolist(), scene.labels, scene.hits)
        ]
        info = self.parse_data_info(info)
        dims = {mark: 3 + i for i, mark in enumerate(marks)}
        info["points"] = LiDARPoints(points, points_dim=points.shape[1], attribute_dims=dims)
        info["img"] = scene.image[..., ::-1].copy()  # BGR, as mmcv reads images
        info |= {"img_shape": world.IMAGE, "ori_shape": world.IMAGE}
        return info

    def parse_ann_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Gather boxes and labels; there may be none."""
        found = super().parse_ann_info(info) or {
            "gt_bboxes_3d": np.zeros((0, 9), np.float32),
            "gt_labels_3d": np.zeros(0, np.int64),
        }
        found["gt_bboxes_3d"] = LiDARInstance3DBoxes(found["gt_bboxes_3d"], box_dim=9)
        return found


def aged(clouds: Sequence[np.ndarray], ages: Sequence[float]) -> np.ndarray:
    """Points of several moments as one cloud, with a last column that tells their age in seconds.

    >>> aged([np.zeros((2, 4)), np.ones((1, 4))], [0.0, 0.5])[:, 4].tolist()
    [0.0, 0.0, 0.5]
    """
    marked = [np.column_stack([cloud, np.full(len(cloud), age)]) for cloud, age in zip(clouds, ages)]
    return np.concatenate(marked).astype(np.float32)
