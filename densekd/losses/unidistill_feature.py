from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from densekd.sensors.geometry import Extent, extents, nine_points, pad, read
from kdlosses import register, weighted_mean


@register(match="channels")
def unidistill_feature(
    student: Tensor,
    teacher: Tensor,
    boxes_bev: Sequence[Tensor],
    student_range: Sequence[float],
    teacher_range: Sequence[float] | None = None,
    student_axes: str = "yx",
    teacher_axes: str = "yx",
    weight: Tensor | None = None,
) -> Tensor:
    r"""Features of UniDistill: match two bird's-eye-view maps at nine points of each box.

    With $p_{k1}, \dots, p_{k9}$ the corners of box k, the middles of its sides and its centre, and f(p) a map read
    bilinearly at a place in metres,

    $$ L = \mathrm{mean}_{k,j} \, \mathrm{mean}_c \, | f^t_c(p_{kj}) - f^s_c(p_{kj}) |, $$

    over the points of all boxes of the batch that lie on both maps. The rest of the map does not count. The maps may
    differ in size and in the part of the ground that they show: they are aligned in metres.

    Args:
        student: `(B, C, h, w)`.
        teacher: `(B, C, h', w')`.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw in radians from x towards y.
        student_range: what the student's map shows, `(x0, y0, x1, y1)` or a point_cloud_range of six numbers; metres.
        teacher_range: likewise of the teacher's; the student's if not given.
        student_axes: 'yx' if rows run along y, as in mmdet3d, 'xy' if along x, as in BEVFusion.
        teacher_axes: likewise of the teacher's map.
        weight: `(B, h, w)`, cells of the student's map to count.

    Paper: Zhou et al., "UniDistill: A Universal Cross-Modality Knowledge Distillation Framework for 3D Object Detection
    in Bird's-Eye View", CVPR 2023. Factor 1, weight 100 from LiDAR to camera. In the authors' code a point beside the
    map is read as 0 on both sides and counts among the nine; here it does not count, and the border is not blended with
    zeros, so that maps of unequal range can be compared.

    >>> import torch
    >>> student, box = torch.zeros(1, 2, 8, 8), torch.tensor([[4.0, 4.0, 2.0, 1.0, 0.3]])
    >>> unidistill_feature(student, torch.full((1, 2, 4, 4), 3.0), [box], [0, 0, 8, 8]).item()
    3.0
    >>> unidistill_feature(student, torch.ones(1, 2, 4, 4), [box[:0]], [0, 0, 8, 8]).item()
    0.0
    """
    mine, its = extents(student_range, teacher_range, student_axes, teacher_axes)
    f, g, counts = at_boxes(student, teacher, boxes_bev, mine, its, weight)
    return weighted_mean((f - g).abs().mean(-1), counts)


def at_boxes(
    student: Tensor,
    teacher: Tensor,
    boxes_bev: Sequence[Tensor],
    mine: Extent,
    its: Extent,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read both maps at the nine points of each box.

    Returns:
        student `(B, M, 9, C)`, teacher `(B, M, 9, C')`, and how much each point counts `(B, M, 9)`: 0 where it lies
        beside one of the maps, and of boxes that are only padding.
    """
    for side, maps in (("student", student), ("teacher", teacher)):
        if maps.ndim != 4:
            raise ValueError(f"the {side}'s maps must be (B, C, h, w), got shape {tuple(maps.shape)}")
    boxes, real = pad(boxes_bev, student)
    points = nine_points(boxes).flatten(1, 2)
    f, counts = read(student, points, mine, weight)
    same = teacher.shape[2:] == student.shape[2:] and mine == its
    g, others = read(teacher, points, its, weight if same else None)
    counts = counts * (others > 0) * real.repeat_interleave(9, 1)
    f, g, counts = (each.unflatten(1, (-1, 9)) for each in (f, g, counts))
    return f, g, counts
