from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from densekd.losses.unidistill_feature import at_boxes
from densekd.sensors.geometry import extents
from kdlosses import register, weighted_mean
from kdlosses.unit import unit


@register(match="samples", categorical=True)
def unidistill_relation(
    student: Tensor,
    teacher: Tensor,
    boxes_bev: Sequence[Tensor],
    student_range: Sequence[float],
    teacher_range: Sequence[float] | None = None,
    student_axes: str = "yx",
    teacher_axes: str = "yx",
    weight: Tensor | None = None,
) -> Tensor:
    r"""Relations of UniDistill: match the cosines between the nine points of each box.

    With f(p) a map read bilinearly at the nine points $p_{k1}, \dots, p_{k9}$ of box k, as in `unidistill_feature`,

    $$ R_k = \big[ \cos(f(p_{ki}), f(p_{kj})) \big]_{ij}, \qquad
       L = \mathrm{mean}_k \, \mathrm{mean}_{ij} \, | R^t_k - R^s_k |_{ij}, $$

    over the pairs of points of all boxes of the batch that lie on both maps. Only the cosines are compared, so that the
    two sides may differ in channels.

    Args:
        student: `(B, C, h, w)`.
        teacher: `(B, C', h', w')`.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw in radians from x towards y.
        student_range: what the student's map shows, `(x0, y0, x1, y1)` or a point_cloud_range of six numbers; metres.
        teacher_range: likewise of the teacher's; the student's if not given.
        student_axes: 'yx' if rows run along y, as in mmdet3d, 'xy' if along x, as in BEVFusion.
        teacher_axes: likewise of the teacher's map.
        weight: `(B, h, w)`, cells of the student's map to count.

    Paper: Zhou et al., "UniDistill: A Universal Cross-Modality Knowledge Distillation Framework for 3D Object Detection
    in Bird's-Eye View", CVPR 2023. Factor 1, weight 40 from LiDAR to camera. Points beside a map do not count here, see
    `unidistill_feature`.

    >>> import torch
    >>> box = torch.tensor([[4.0, 4.0, 2.0, 1.0, 0.3]])
    >>> maps = torch.rand(1, 2, 8, 8)
    >>> unidistill_relation(maps, 5 * maps, [box], [0, 0, 8, 8]).item() < 1e-6  # a scale is no matter
    True
    """
    mine, its = extents(student_range, teacher_range, student_axes, teacher_axes)
    f, g, counts = at_boxes(student, teacher, boxes_bev, mine, its, weight)
    f, g = unit(f, -1), unit(g, -1)
    pairs = counts[..., :, None] * counts[..., None, :]
    return weighted_mean((f @ f.mT - g @ g.mT).abs(), pairs)
