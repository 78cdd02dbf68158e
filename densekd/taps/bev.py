"""Taps of the bird's-eye-view maps of mmdet3d's detectors, and the extents of these maps."""

from __future__ import annotations

from typing import Any

from torch import nn

from densekd.sensors.batches import has_sensors, sees_points
from densekd.sensors.geometry import Extent

LOW = ("fusion_layer", "view_transform", "pts_middle_encoder", "middle_encoder", "neck_3d")
"""Modules that yield the map of the ground; of several in one detector the first in this list runs last."""
HIGH = ("pts_neck", "neck_3d", "neck")
"""Modules that yield the input of the head."""
HEADS = ("pts_bbox_head", "bbox_head")


def bev_taps(model: nn.Module) -> dict[str, str]:
    """Return the taps `low`, `high`, `scores` and `regression` of a detector with a map of the ground.

    `scores` and `regression` yield the maps of all tasks of a CenterPoint head, one after the other, or an anchor
    head's outputs for all anchors; heads of other kinds have neither. Scores are copies: mmdet3d overwrites them.

    Raises:
        ValueError: the model has no map of the ground.
    """
    parts = dict(model.named_modules())
    low = next((name for name in LOW if name in parts), None)
    high = next((name for name in HIGH if name in parts), None)
    if low is None or high is None or not has_sensors(model):
        raise ValueError(
            f"{type(model).__name__} has no known map of the ground, none of {', '.join(LOW)}; write distills "
            "entries with the paths of modules"
        )
    taps = {"low": low, "high": high}
    head = next((name for name in HEADS if name in parts), "")
    tasks = len(_tasks(model))
    if tasks:
        names = [f"{head}.task_heads.{i}" for i in range(tasks)]
        taps["scores"] = "+".join(f"{name}.heatmap:copy" for name in names)
        taps["regression"] = "+".join(f"{name}.{branch}" for name in names for branch in branches(model))
    elif f"{head}.conv_cls" in parts and f"{head}.conv_reg" in parts:
        taps["scores"], taps["regression"] = f"{head}.conv_cls", f"{head}.conv_reg"
    return taps


def branches(model: Any) -> list[str]:
    """List the regression branches of a CenterPoint head, `reg`, `height`, `dim`, ...; none for other heads."""
    return list(widths(model)[0]) if _tasks(model) else []


def widths(model: Any) -> list[dict[str, int]]:
    """Return the channels of each of `branches`, task by task."""
    return [{name: of[0] for name, of in task.heads.items() if name != "heatmap"} for task in _tasks(model)]


def head_of(model: Any) -> Any:
    return next((getattr(model, name) for name in HEADS if getattr(model, name, None) is not None), None)


def _tasks(model: Any) -> list[Any]:
    return list(getattr(head_of(model), "task_heads", ()))


def cell_of(model: Any) -> float | None:
    """Return the side of a cell of a CenterPoint head in metres, the unit of its offsets; None for others."""
    coder = getattr(head_of(model), "bbox_coder", None)
    size, factor = getattr(coder, "voxel_size", None), getattr(coder, "out_size_factor", None)
    return None if size is None or factor is None else float(size[0] * factor)


def bev_extent(model: Any) -> Extent:
    """Return the extent of a detector's maps in metres, from its config.

    That is the range of the voxels, of a `view_transform`, or of the grid of an ImVoxelNet. Rows run along y, but for
    the sparse encoder of BEVFusion, whose rows run along x.

    Raises:
        ValueError: none of them is known.
    """
    encoder = getattr(model, "pts_middle_encoder", None)
    axes = "xy" if type(encoder).__name__ == "BEVFusionSparseEncoder" else "yx"
    if sees_points(model):
        return Extent.of(model.data_preprocessor.voxel_layer.point_cloud_range, axes)
    view = getattr(model, "view_transform", None)
    if view is not None and hasattr(view, "point_cloud_range"):
        return Extent.of(view.point_cloud_range, axes)
    grid = getattr(model, "prior_generator", None)
    if grid is not None and hasattr(grid, "ranges"):
        return Extent.of(grid.ranges[0], axes)
    raise ValueError(
        f"the range of the map of {type(model).__name__} is unknown: give student_range or teacher_range, (x0, y0, x1, "
        "y1) in metres, as an option of the method"
    )


def sensor_of(model: Any) -> str:
    """Return 'lidar', 'camera' or 'fusion', from the inputs of a detector."""
    if not sees_points(model):
        return "camera"
    return "lidar" if getattr(model, "img_backbone", None) is None else "fusion"
