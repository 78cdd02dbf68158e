"""Batches of several sensors (mmdet3d), and their conversion for a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densekd.sensors.normalisation import Renormalise
from kdlosses.moved import moved_name

Batch = Mapping[str, Any]


def has_sensors(model: nn.Module) -> bool:
    """Whether a model takes batches of mmdet3d, a dict of sensors, in place of a tensor of images."""
    return hasattr(getattr(model, "data_preprocessor", None), "voxelize")


def reads_truth(model: nn.Module) -> bool:
    """Whether a teacher reads boxes and labels in place of sensors, by its attribute of this name."""
    return getattr(model, "reads_truth", False)


def sees_points(model: Any) -> bool:
    """Whether a model of mmdet3d takes voxels of points."""
    return bool(model.data_preprocessor.voxel)


def takes_points(model: Any) -> bool:
    """Whether a model of mmdet3d takes raw points, without voxels: its backbone is a PointNet++."""
    return not sees_points(model) and hasattr(getattr(model, "backbone", None), "SA_modules")


def sees_images(model: Any) -> bool:
    """Whether a model of mmdet3d takes images: it has a branch for them, or no other input."""
    return getattr(model, "img_backbone", None) is not None or not (sees_points(model) or takes_points(model))


class Sensors:
    """Convert the student's batch to that of the teacher's preprocessor for the same frames.

    Images are normalised again and points voxelised again, each only if the two preprocessors differ; sensors that the
    teacher does not use are not changed. A camera student has the points in its batch for its teacher if
    `Pack3DDetInputs` lists them.

    Args:
        student: the student.
        teacher: the teacher.

    Raises:
        ValueError: on a batch without a sensor that the teacher needs, or with a frame that has no point in its range.
    """

    def __init__(self, student: Any, teacher: Any) -> None:
        mine, its = student.data_preprocessor, teacher.data_preprocessor
        self.teacher = teacher
        self.renormalise = Renormalise(mine, its)
        of_points = sees_points(student) and sees_points(teacher)
        self.same_voxels = of_points and voxelisation(mine) == voxelisation(its)

    def __call__(self, inputs: Batch, samples: Sequence[Any]) -> Batch:
        batch = dict(inputs)
        asks = "the teacher", " in the student's pipeline"
        if sees_images(self.teacher):
            batch["imgs"] = self.renormalise(sensor(inputs, "imgs", "img", *asks), samples)
        if sees_points(self.teacher):
            points = sensor(inputs, "points", "points", *asks)
            if self.same_voxels:
                # mmdet3d's PillarFeatureNet shifts points in place, and the student runs afterwards
                batch["voxels"] = {**inputs["voxels"], "voxels": inputs["voxels"]["voxels"].clone()}
            else:
                batch["voxels"] = self.teacher.data_preprocessor.voxelize(points, samples)
            check_clouds(batch, samples)
        elif takes_points(self.teacher):
            sensor(inputs, "points", "points", *asks)
        return batch


def check_clouds(inputs: Batch, samples: Sequence[Any]) -> None:
    """Raise `ValueError` if a frame has no voxel: mmdet3d would infer a smaller batch, or fail."""
    if "voxels" not in inputs:
        return
    found = torch.bincount(inputs["voxels"]["coors"][:, 0].long(), minlength=len(samples))
    if (found == 0).any():
        sample = samples[int(found.argmin())]
        name = sample.metainfo.get("lidar_path") or sample.metainfo.get("sample_idx", "a frame")
        raise ValueError(
            f"the point cloud of {name} is empty within the range of the voxels: remove such frames from the data set"
        )


def sensor(inputs: Batch, name: str, key: str, who: str, where: str = "") -> Any:
    """Return `inputs[name]`; the error names the model that needs it, and where to add `key`."""
    if inputs.get(name) is None:
        raise ValueError(
            f"{who} needs {name}, but this batch has only {', '.join(inputs)}: add {key!r} to the keys of "
            f"Pack3DDetInputs{where}"
        )
    return inputs[name]


def voxelisation(preprocessor: Any) -> dict[str, Any]:
    """Return the settings of a voxelisation."""
    layer = preprocessor.voxel_layer
    return {
        "voxel_type": preprocessor.voxel_type,
        "voxel_size": tuple(map(float, layer.voxel_size)),
        "point_cloud_range": tuple(map(float, layer.point_cloud_range)),
        "max_num_points": layer.max_num_points,
        "max_voxels": tuple(np.ravel(layer.max_voxels).tolist()),
    }


def image_size(inputs: Tensor | Batch) -> tuple[int, int] | None:
    """Height and width of the images of a batch; None where it has none."""
    images = inputs if isinstance(inputs, Tensor) else inputs.get("imgs")
    return None if images is None else (images.shape[-2], images.shape[-1])


_MOVED = {name: f"densekd.mmlab.blank.{name}" for name in ("blank", "FRONT")}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
