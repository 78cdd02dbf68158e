"""The local geometry of voxels or points (3D detection)."""

from __future__ import annotations

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.sensors.batches import has_sensors, sees_points, voxelisation

ENCODERS = ("pts_voxel_encoder", "voxel_encoder")


@method()
def pointdistiller(
    student: nn.Module,
    teacher: nn.Module,
    tau: float = 1.0,
    importance: str = "log",
    teacher_learns: bool = False,
) -> list[dict[str, Any]]:
    """Match the local geometry around the most important voxels or points: `pointdistiller`, weight 2.

    - Voxel encoders that learn, as in PointPillars and CenterPoint with pillars: their voxels, 6,000 with 128
      neighbours. The number of points in a voxel is its importance.
    - Those that only average points, as in SECOND: the levels of the backbone, 256 cells with 256 neighbours, and the
      maximum over the teacher's channels.
    - Point detectors, such as PointRCNN: the output of feature propagation, the points with numbers as of voxels and
      importance as of cells, which is our reading. Their operators, like SECOND's, run on a GPU alone, where this has
      not been tried.

    Voxels and cells of the two sides are compared row by row, so that both models must make the same ones.

    Args:
        student: a detector of mmdet3d that takes points.
        teacher: likewise, with the same voxels.
        tau: see the loss; published: 0.01.
        importance: see the loss; published: 'count'.
        teacher_learns: see the loss; published: True.

    Raises:
        ValueError: one of them takes no points, or their voxels or their kinds differ.

    Paper: Zhang et al., "PointDistiller: Structured Knowledge Distillation Towards Efficient and Compact 3D Detection",
    CVPR 2023. Numbers are those of its code, weights over voxels ours unless the three options say otherwise.
    """
    options = {"type": "pointdistiller", "tau": tau, "importance": importance, "teacher_learns": teacher_learns}
    mine, its = _taps(student, "student"), _taps(teacher, "teacher")
    if set(mine) != set(its):
        raise ValueError(
            f"pointdistiller compares {', '.join(mine)} of the student ({type(student).__name__}) with "
            f"{', '.join(its)} of the teacher ({type(teacher).__name__}): take detectors of one kind"
        )
    _check_voxels(student, teacher)
    cells = {"crucial": 256, "neighbours": 256}
    return [
        {
            "loss": {**options, **(cells if kind.startswith("cells") else {})},
            "student": mine[kind],
            "teacher": its[kind],
            "weight": 2.0,
            "name": "pointdistiller" if len(mine) == 1 else f"pointdistiller_{kind}",
            # points (B, C, n) are no tokens (B, n, C)
            "adapt": "none" if kind == "points" else "auto",
        }
        for kind in mine
    ]


def _taps(model: Any, side: str) -> dict[str, str]:
    """The tap of each comparison: `voxels`, `cells_<level>` or `points`."""
    parts = dict(model.named_modules())
    propagation = getattr(getattr(model, "neck", None), "FP_modules", None)
    if propagation is not None:
        return {"points": f"neck.FP_modules.{len(propagation) - 1}"}
    encoder = next((name for name in ENCODERS if name in parts), None)
    if not has_sensors(model) or not sees_points(model) or encoder is None:
        raise ValueError(
            f"pointdistiller compares voxels or points, but the {side}, {type(model).__name__}, takes none"
        )
    if next(parts[encoder].parameters(), None) is not None:
        return {"voxels": encoder}
    backbone = "pts_backbone" if "pts_backbone" in parts else "backbone"
    return {f"cells_{i}": f"{backbone}:{i}" for i, _ in enumerate(parts[backbone].blocks)}


def _check_voxels(student: Any, teacher: Any) -> None:
    if not (sees_points(student) and sees_points(teacher)):
        return
    mine, its = voxelisation(student.data_preprocessor), voxelisation(teacher.data_preprocessor)
    unlike = [f"{name} {mine[name]} and {its[name]}" for name in mine if mine[name] != its[name]]
    if unlike:
        raise ValueError(
            "pointdistiller compares the voxels of student and teacher one by one, but they are made with "
            f"{'; '.join(unlike)}: give both the same voxel_layer"
        )
    if mine["voxel_type"] != "hard":
        raise ValueError(f"pointdistiller needs voxel_type='hard', got {mine['voxel_type']!r}")
