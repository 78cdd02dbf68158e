from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from densekd.sensors.geometry import Extent, extents, gaussians, onto, pad, rows_along_y
from kdlosses import register, weighted_mean


@register(match="samples")
def unidistill_heatmap(
    student: Tensor,
    teacher: Tensor,
    boxes_bev: Sequence[Tensor],
    student_range: Sequence[float],
    teacher_range: Sequence[float] | None = None,
    student_axes: str = "yx",
    teacher_axes: str = "yx",
    tau: float = 1.0,
    min_overlap: float = 0.7,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Heatmap response of UniDistill: match the highest class score around each box.

    With M the union of CenterNet's Gaussians of the boxes, see `densekd.sensors.geometry.gaussians`,

    $$ L = \sum_i M_i \, | \max_c \sigma(z^t_{ic} / \tau) - \max_c \sigma(z^s_{ic}) | \Big/ \sum_i M_i $$

    over the cells i of the batch; a teacher's map of another size or range is read at the centres of the student's
    cells. Heads of other classes, anchors or tasks can be compared: only the highest score of a cell counts.

    Args:
        student: logits of all classes `(B, C, h, w)`.
        teacher: logits of all classes `(B, C', h', w')`.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw in radians from x towards y.
        student_range: what the student's map shows, `(x0, y0, x1, y1)` or a point_cloud_range of six numbers; metres.
        teacher_range: likewise of the teacher's; the student's if not given.
        student_axes: 'yx' if rows run along y, as in mmdet3d, 'xy' if along x, as in BEVFusion.
        teacher_axes: likewise of the teacher's map.
        tau: temperature of the teacher.
        min_overlap: IoU that defines the radius of a Gaussian.
        weight: `(B, h, w)`, cells of the student's map to count.

    Paper: Zhou et al., "UniDistill: A Universal Cross-Modality Knowledge Distillation Framework for 3D Object Detection
    in Bird's-Eye View", CVPR 2023. Factor 1, weight 10 from LiDAR to camera. The authors' code has tau 2, with which
    even a perfect student has a loss; 1 is our default.

    >>> import torch
    >>> box, student = torch.tensor([[4.0, 4.0, 2.0, 1.0, 0.3]]), torch.zeros(1, 3, 8, 8)
    >>> round(unidistill_heatmap(student, student + 2, [box], [0, 0, 8, 8]).item(), 4)  # 0.8808 - 0.5
    0.3808
    """
    mine, its = extents(student_range, teacher_range, student_axes, teacher_axes)
    s = student.sigmoid().amax(1, keepdim=True)
    t = (teacher / tau).sigmoid().amax(1, keepdim=True)
    return _around_boxes(s, t, boxes_bev, mine, its, min_overlap, weight)


@register(match="channels")
def unidistill_regression(
    student: Tensor,
    teacher: Tensor,
    boxes_bev: Sequence[Tensor],
    student_range: Sequence[float],
    teacher_range: Sequence[float] | None = None,
    student_axes: str = "yx",
    teacher_axes: str = "yx",
    min_overlap: float = 0.7,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Regression response of UniDistill: match all regression maps around each box.

    With M as in `unidistill_heatmap` and r all regression maps, one channel after the other,

    $$ L = \sum_i M_i \, \mathrm{mean}_c \, | r^t_{ic} - r^s_{ic} | \Big/ \sum_i M_i . $$

    A channel in units of cells, as the offset of a centre is in CenterPoint, means the same on both sides only where
    cells are of one size.

    Args:
        student: regression maps `(B, C, h, w)`.
        teacher: regression maps `(B, C, h', w')`.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw in radians from x towards y.
        student_range: what the student's map shows, `(x0, y0, x1, y1)` or a point_cloud_range of six numbers; metres.
        teacher_range: likewise of the teacher's; the student's if not given.
        student_axes: 'yx' if rows run along y, as in mmdet3d, 'xy' if along x, as in BEVFusion.
        teacher_axes: likewise of the teacher's map.
        min_overlap: IoU that defines the radius of a Gaussian.
        weight: `(B, h, w)`, cells of the student's map to count.

    Paper: Zhou et al., "UniDistill: A Universal Cross-Modality Knowledge Distillation Framework for 3D Object Detection
    in Bird's-Eye View", CVPR 2023. Factor 1, weight 10 from LiDAR to camera: with `unidistill_heatmap` it is the
    response loss. The mean over channels is that of the authors' code.

    >>> import torch
    >>> box, student = torch.tensor([[4.0, 4.0, 2.0, 1.0, 0.3]]), torch.zeros(1, 8, 8, 8)
    >>> unidistill_regression(student, student + 2, [box], [0, 0, 8, 8]).item()
    2.0
    """
    mine, its = extents(student_range, teacher_range, student_axes, teacher_axes)
    return _around_boxes(student, teacher, boxes_bev, mine, its, min_overlap, weight)


def _around_boxes(
    student: Tensor,
    teacher: Tensor,
    boxes_bev: Sequence[Tensor],
    mine: Extent,
    its: Extent,
    min_overlap: float,
    weight: Tensor | None,
) -> Tensor:
    """L1 distance, mean over channels, averaged over cells by the Gaussians of the boxes."""
    student = rows_along_y(student, mine)
    teacher, shown = onto(teacher, its, student, mine)
    mask = gaussians(*pad(boxes_bev, student), student, mine, min_overlap) * shown
    if weight is not None:
        mask = mask * rows_along_y(weight, mine).to(mask.dtype)
    return weighted_mean((student - teacher).abs().mean(1), mask)
