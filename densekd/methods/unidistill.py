"""Distillation between any two sensors, in bird's-eye view (3D detection)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.sensors.geometry import Extent
from densekd.taps.bev import bev_extent, bev_taps, branches, cell_of, head_of, sensor_of, widths

WEIGHTS = {
    ("lidar", "camera"): (100.0, 40.0, 10.0),
    ("camera", "lidar"): (10.0, 5.0, 1.0),
    ("fusion", "camera"): (10.0, 5.0, 10.0),
    ("fusion", "lidar"): (10.0, 1.0, 10.0),
}
"""Of features, relations and responses, from the sensor of the teacher to that of the student, as published."""


@method()
def unidistill(
    student: nn.Module,
    teacher: nn.Module,
    feature: float | None = None,
    relation: float | None = None,
    response: float | None = None,
    student_range: Sequence[float] | None = None,
    teacher_range: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Match two bird's-eye-view maps at the objects: features, relations within an object, responses around it.

    `unidistill_feature` on the map of the sensors, through a 1x1 convolution if the channels differ;
    `unidistill_relation` on the map that the head reads; `unidistill_heatmap` and `unidistill_regression`, which make
    the response, on the output of the head. Weights are the published ones of the direction, see `WEIGHTS`; between
    other sensors, such as two LiDARs, those of `fusion` to `camera`, which is our choice. Each is an option, and 0
    leaves the loss out.

    The regression is matched where both heads regress the same for the same tasks; else, as between an anchor head and
    CenterPoint's, only the heatmap. Offsets within a cell are left out where cells differ in size. An ImVoxelNet has
    one map for low and high.

    Args:
        student: any detector of mmdet3d with a map of the ground.
        teacher: likewise, of any sensor.
        feature: weight of the features.
        relation: weight of the relations.
        response: weight of heatmap and regression.
        student_range: what the student's map shows, (x0, y0, x1, y1) in metres; read off the model if not given.
        teacher_range: likewise of the teacher.

    Raises:
        ValueError: one of them has no map of the ground, or the range of its map is unknown.

    Paper: Zhou et al., "UniDistill: A Universal Cross-Modality Knowledge Distillation Framework for 3D Object Detection
    in Bird's-Eye View", CVPR 2023.
    """
    mine, its = bev_taps(student), bev_taps(teacher)
    grids = _grids(student, student_range, "student") | _grids(teacher, teacher_range, "teacher")
    sensors = sensor_of(teacher), sensor_of(student)
    published = WEIGHTS.get(sensors, WEIGHTS["fusion", "camera"])
    weights = [p if given is None else given for p, given in zip(published, (feature, relation, response))]

    def entry(loss: str, tap: str, weight: float, **more: Any) -> dict[str, Any]:
        return {
            "loss": {"type": f"unidistill_{loss}", **grids},
            "student": mine[tap],
            "teacher": its[tap],
            "weight": weight,
            "name": loss,
            **more,
        }

    entries = [entry("feature", "low", weights[0]), entry("relation", "high", weights[1])]
    if "scores" in mine and "scores" in its:
        entries.append(entry("heatmap", "scores", weights[2], adapt="cat"))
    shared = _alike(student, teacher)
    if shared is not None:
        regression = entry("regression", "regression", weights[2], adapt="cat")
        if shared:  # branches of CenterPoint's head; the output of an anchor head is one map
            for side, taps in (("student", mine), ("teacher", its)):
                parts = taps["regression"].split("+")
                regression[side] = "+".join(part for part in parts if part.rpartition(".")[2] in shared)
        entries.append(regression)
    return [each for each in entries if each["weight"]]


def _grids(model: nn.Module, given: Sequence[float] | None, side: str) -> dict[str, Any]:
    extent = bev_extent(model) if given is None else Extent.of(given)
    return {f"{side}_range": extent[:4], f"{side}_axes": extent.axes}


def _alike(student: nn.Module, teacher: nn.Module) -> list[str] | None:
    """Which branches both heads have, none to choose from for anchor heads; None where they cannot be compared."""
    if branches(student) or branches(teacher):
        if widths(student) != widths(teacher):
            return None
        return [branch for branch in branches(student) if branch != "reg" or cell_of(student) == cell_of(teacher)]
    mine, its = (getattr(head_of(model), "conv_reg", None) for model in (student, teacher))
    return [] if mine is not None and its is not None and mine.out_channels == its.out_channels else None
