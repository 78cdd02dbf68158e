"""Geometry on the ground in metres, and sampling of bird's-eye-view maps. Plain tensors; no OpenMMLab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Extent(NamedTuple):
    """The part of the ground that a map `(B, C, H, W)` shows, in metres: from the outer edges of its border cells.

    A cell is $(x_1 - x_0) / W$ by $(y_1 - y_0) / H$ metres whatever the stride, and cell i of a row has its centre at
    $x_0 + (i + 1/2) (x_1 - x_0) / W$. A side may run backwards ($x_1 < x_0$), as in maps drawn with the front on top.

    Attributes:
        x0: where the first column begins.
        y0: where the first row begins.
        x1: where the last column ends.
        y1: where the last row ends.
        axes: 'yx' if rows run along y, as in mmdet3d's scatter and sparse encoders; 'xy' if they run along x, as in
            BEVFusion's. The four numbers stay x and y in either case.

    >>> Extent.of([0, -39.68, -3, 69.12, 39.68, 1])  # a point_cloud_range, too
    Extent(x0=0.0, y0=-39.68, x1=69.12, y1=39.68, axes='yx')
    """

    x0: float
    y0: float
    x1: float
    y1: float
    axes: str = "yx"

    @classmethod
    def of(cls, limits: Sequence[float], axes: str = "yx") -> Extent:
        """Read `(x0, y0, x1, y1)` or `(x0, y0, z0, x1, y1, z1)`; raises `ValueError` if it is neither."""
        values = [float(limit) for limit in limits]
        if len(values) == 6:
            values = [*values[:2], *values[3:5]]
        if len(values) != 4 or values[0] == values[2] or values[1] == values[3]:
            raise ValueError(
                f"the range of a map is (x0, y0, x1, y1) or a point_cloud_range of six numbers, in metres; got {limits}"
            )
        if axes not in ("yx", "xy"):
            raise ValueError(f"axes must be 'yx' (rows run along y) or 'xy', got {axes!r}")
        x0, y0, x1, y1 = values
        return cls(x0, y0, x1, y1, axes)

    def shares(self, points: Tensor) -> Tensor:
        """Relative positions of points `(..., 2)` on the map, 0 to 1 from edge to edge."""
        start, end = points.new_tensor(self[:2]), points.new_tensor(self[2:4])
        return (points - start) / (end - start)

    def contains(self, points: Tensor) -> Tensor:
        """Which points `(..., 2)` lie on the map, `(...)` bool."""
        shares = self.shares(points)
        return ((shares >= 0) & (shares < 1)).all(-1)

    def centres(self, maps: Tensor) -> Tensor:
        """Centre of each cell of `maps` (B, C, H, W) with rows along y, `(H, W, 2)`."""
        height, width = maps.shape[-2:]
        x, y = ((torch.arange(n, dtype=maps.dtype, device=maps.device) + 0.5) / n for n in (width, height))
        shares = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        return shares * maps.new_tensor([self.x1 - self.x0, self.y1 - self.y0]) + maps.new_tensor(self[:2])


def extents(
    student_range: Sequence[float], teacher_range: Sequence[float] | None, student_axes: str, teacher_axes: str
) -> tuple[Extent, Extent]:
    """Return the extents of the student's and the teacher's map; the teacher's range defaults to the student's."""
    mine = Extent.of(student_range, student_axes)
    return mine, Extent.of(student_range if teacher_range is None else teacher_range, teacher_axes)


def rows_along_y(maps: Tensor, extent: Extent) -> Tensor:
    """Lay out maps `(..., H, W)` so that rows run along y."""
    return maps.transpose(-2, -1) if extent.axes == "xy" else maps


def read(maps: Tensor, points: Tensor, extent: Extent, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Sample maps at points on the ground, bilinearly between the centres of cells.

    Within half a cell of the edge the value is that of the border cells. Cells of weight 0 do not count: the value is
    $\sum_i b_i w_i f_i / \sum_i b_i w_i$ over the four cells around, with the bilinear $b_i$.

    Args:
        maps: `(B, C, H, W)`.
        points: `(B, P, 2)`, x and y in metres.
        extent: what the maps show.
        weight: `(B, H, W)`, cells to count.

    Returns:
        values `(B, P, C)`, and how much each counts `(B, P)`: 0 beside the map, else $\sum_i b_i w_i$.

    >>> ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    >>> values, counts = read(ramp, torch.tensor([[[2.0, 0.0], [9.0, 0.0]]]), Extent(0, -3, 4, 3))
    >>> values[0, 0].item(), counts.tolist()
    (1.5, [[1.0, 0.0]])
    """
    inside = extent.contains(points)
    if points.shape[1] == 0:
        return maps.flatten(2)[..., :0].mT, inside.to(maps.dtype)  # nothing, with a graph
    maps = rows_along_y(maps, extent)
    grid = (2 * extent.shares(points.to(maps.dtype)) - 1).unsqueeze(2)
    grid = torch.where(inside[..., None, None], grid, 0)
    if weight is None:
        return _bilinear(maps, grid), inside.to(maps.dtype)
    weight = rows_along_y(weight, extent).to(maps.dtype).unsqueeze(1)
    counts = _bilinear(weight, grid)
    values = _bilinear(maps * weight, grid) / counts.clamp_min(torch.finfo(counts.dtype).tiny)
    return values, counts.squeeze(-1) * inside


def _bilinear(maps: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[..., 0].mT


def onto(maps: Tensor, extent: Extent, like: Tensor, its: Extent) -> tuple[Tensor, Tensor]:
    """Resample maps at the cells of other maps, aligned in metres.

    Args:
        maps: `(B, C, H, W)`.
        extent: what they show.
        like: `(B, *, h, w)`, with rows along y.
        its: what those show.

    Returns:
        `(B, C, h, w)` with rows along y, and which of the cells lie on `maps` `(h, w)`.
    """
    maps = rows_along_y(maps, extent)
    if maps.shape[-2:] == like.shape[-2:] and extent[:4] == its[:4]:
        return maps, torch.ones_like(maps[0, 0], dtype=torch.bool)
    centres = its.centres(like)
    points = centres.flatten(0, 1).expand(len(maps), -1, 2)
    values, _ = read(maps, points, extent._replace(axes="yx"))
    return values.mT.unflatten(2, centres.shape[:2]), extent.contains(centres)


def on_the_ground(boxes: Any) -> Tensor:
    """Project 3D boxes, mmdet3d's or their tensor `(n, 7 or more)`, to the ground: x, y, dx, dy, yaw."""
    return getattr(boxes, "tensor", boxes)[:, [0, 1, 3, 4, 6]]


def pad(boxes: Sequence[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """Stack the boxes of samples, `(n, 5)` each: x, y of the centre, sides dx along the yaw and dy across it, yaw.

    Metres and radians; at yaw 0 dx lies along x, and a positive yaw turns towards y. Padded to the largest number.

    Args:
        boxes: one tensor a sample.
        like: `(B, ...)`, for dtype and device.

    Returns:
        `(B, M, 5)`, and which are boxes `(B, M)`.

    Raises:
        ValueError: another number of samples, or boxes of another layout.
    """
    if len(boxes) != len(like):
        raise ValueError(f"boxes_bev has {len(boxes)} samples, but the maps have {len(like)}")
    for each in boxes:
        if each.ndim != 2 or each.shape[1] != 5:
            raise ValueError(
                f"boxes_bev must have shape (n, 5): x, y, dx, dy, yaw; got {tuple(each.shape)}"
                + ("; of 3D boxes take [:, [0, 1, 3, 4, 6]]" if each.shape[-1] in (7, 9) else "")
            )
    most = max(len(each) for each in boxes)
    real = [torch.arange(most, device=like.device) < len(each) for each in boxes]
    padded = [F.pad(each.to(like), (0, 0, 0, most - len(each))) for each in boxes]
    return torch.stack(padded), torch.stack(real)


def nine_points(boxes: Tensor) -> Tensor:
    """Corners, middles of the sides and centre of boxes `(..., 5)`, as `(..., 9, 2)`: the centre is number 4.

    >>> nine_points(torch.tensor([[10.0, 0.0, 4.0, 2.0, torch.pi / 2]]))[0, [0, 4, 8]].round().tolist()
    [[11.0, -2.0], [10.0, 0.0], [9.0, 2.0]]
    """
    half = boxes.new_tensor([-0.5, 0.0, 0.5])
    along, across = (each.flatten() for each in torch.meshgrid(half, half, indexing="ij"))
    u, v = along * boxes[..., 2, None], across * boxes[..., 3, None]
    cos, sin = boxes[..., 4, None].cos(), boxes[..., 4, None].sin()
    return torch.stack([boxes[..., 0, None] + u * cos - v * sin, boxes[..., 1, None] + u * sin + v * cos], -1)


def gaussians(boxes: Tensor, real: Tensor, maps: Tensor, extent: Extent, min_overlap: float = 0.7) -> Tensor:
    r"""Union of the Gaussians that CenterNet draws for boxes, on the cells of maps.

    $$ M_i = \max_k \exp\Big(-\frac{\|i - c_k\|^2}{2 \sigma_k^2}\Big) \, [\, \|i - c_k\|_\infty \le r_k ], \qquad
       \sigma_k = \frac{2 r_k + 1}{6}, $$

    with $c_k$ the cell of the centre and $r_k$ the radius, in whole cells, by which the corners of a box may be off
    while the overlap stays above `min_overlap`, as published in CornerNet's code. Boxes whose centre lies beside the
    map are left out.

    Args:
        boxes: `(B, M, 5)`, see `pad`.
        real: `(B, M)`, which of them are boxes.
        maps: `(B, *, H, W)` with rows along y.
        extent: what the maps show.
        min_overlap: IoU.

    Returns:
        `(B, H, W)`, 0 to 1.
    """
    height, width = maps.shape[-2:]
    drawn = real & extent.contains(boxes[..., :2])
    cells = boxes.new_tensor([width, height])
    size = boxes[..., 2:4] / (boxes.new_tensor([extent.x1 - extent.x0, extent.y1 - extent.y0]) / cells).abs()
    radius = _radius(size[..., 0], size[..., 1], min_overlap).floor().clamp_min(0)
    centre = (extent.shares(boxes[..., :2]) * cells).floor()
    x, y = (torch.arange(n, dtype=maps.dtype, device=maps.device) for n in (width, height))
    union = []
    for c, r, d in zip(centre, radius, drawn):  # one sample at a time: boxes times cells
        scale = -18 / (2 * r + 1).square()[:, None]
        row, column = ((axis - c[:, i, None]) for i, axis in enumerate((x, y)))
        row, column = (
            torch.where((step.abs() <= r[:, None]) & d[:, None], (step.square() * scale).exp(), 0)
            for step in (row, column)
        )
        drawings = column[:, :, None] * row[:, None, :]
        union.append(drawings.amax(0) if len(drawings) else maps.new_zeros(height, width))
    return torch.stack(union)


def _radius(w: Tensor, h: Tensor, overlap: float) -> Tensor:
    """The least of three: both corners shifted alike, the box shrunk, the box grown."""
    s, p = w + h, w * h
    shifted = (s + (s.square() - 4 * p * (1 - overlap) / (1 + overlap)).clamp_min(0).sqrt()) / 2
    shrunk = (2 * s + (4 * s.square() - 16 * (1 - overlap) * p).clamp_min(0).sqrt()) / 2
    grown = (-2 * overlap * s + (4 * overlap**2 * s.square() + 16 * overlap * (1 - overlap) * p).sqrt()) / 2
    return torch.minimum(torch.minimum(shifted, shrunk), grown)
