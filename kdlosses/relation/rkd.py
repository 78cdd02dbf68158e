from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation import blocks
from kdlosses.relation.points import View, centred_points, points
from kdlosses.unit import unit

_MOST = 1024


@register(match="positions")
def rkd(
    student: Tensor,
    teacher: Tensor,
    distance: float = 25.0,
    angle: float = 50.0,
    view: View = "batch",
    draw: int | None = None,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Relational distillation: match the distances between points, and the angles of triplets.

    With $d_{ij} = \|f_i - f_j\|$, $\mu$ the mean of the $d_{ij} > 0$, $e_{ij} = (f_i - f_j) / d_{ij}$, and $h$ the
    smooth L1 loss with threshold 1,

    $$ L = \lambda_d \, \mathrm{mean}_{i \ne j} \, h\Big(\frac{d^s_{ij}}{\mu^s}, \frac{d^t_{ij}}{\mu^t}\Big)
         + \lambda_a \, \mathrm{mean}_{i \ne j \ne k \ne i} \, h\big(\langle e^s_{ij}, e^s_{kj} \rangle,
                                                               \langle e^t_{ij}, e^t_{kj} \rangle\big). $$

    Rotation, translation and scale of either side change nothing, nor need the channels agree. Points nearer than
    rounding can tell count as one. Distances cost n^2 C operations and are held in blocks; angles cost n^3 C: `draw`
    points, or set `angle` to 0.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        distance: $\lambda_d$.
        angle: $\lambda_a$.
        view: what the points are, see `kdlosses.relation.points`; `pooled` is that of the paper on images.
        draw: number of points to draw at random in each call; all if not given.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node.

    Raises:
        ValueError: angles among more than 1024 points.

    Paper: Park et al., "Relational Knowledge Distillation", CVPR 2019. Code that averages over all n^2 pairs and n^3
    triplets has the factors (n - 1) / n and (n - 1)(n - 2) / n^2; the usual weights are the defaults.

    >>> import torch
    >>> f = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> round(rkd(f, 2 * f @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])).item(), 5)  # rotated and twice as large
    0.0
    >>> line = torch.tensor([[0.0], [1.0], [2.0]])  # cosines 1, -1, 1 against 0, 0.6, 0.8
    >>> round(rkd(f, line, distance=0.0, angle=1.0).item(), 4)  # (0.5 + 1.1 + 0.02) / 3
    0.54
    """
    student, teacher, weight = points(student, teacher, weight, batch, view, draw)
    if angle and weight.shape[1] > _MOST:
        raise ValueError(
            f"rkd: angles among {weight.shape[1]} points cost too much: draw at most {_MOST}, or set angle to 0"
        )
    student, teacher = centred_points(student, weight), centred_points(teacher, weight)
    n = weight.sum(1)
    pairs = n * (n - 1).clamp_min(1)
    each = student.new_zeros(len(n))
    if distance:
        each = each + distance * _distances(student, teacher, weight) / _positive(pairs)
    if angle:
        each = each + angle * _angles(student, teacher, weight) / _positive(pairs * (n - 2).clamp_min(1))
    return weighted_mean(each, n > 0)


def _distances(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Sum over pairs of the Huber loss of scaled distances, `(sets,)`."""
    sets, n = weight.shape
    column = weight.unsqueeze(2)
    at_once = sets * n * n <= blocks.BLOCK
    sides = [(_distance(x, x) if at_once else x, x) for x in (student, teacher)]

    def distance(rows: Tensor, others: Tensor) -> Tensor:
        return rows if at_once else _distance(rows, others)

    def mean(rows: Tensor, others: Tensor) -> Tensor:
        def sums(rows: Tensor) -> Tensor:
            d = distance(rows, others)
            return torch.cat([d @ column, (d > 0).to(d.dtype) @ column], dim=2)

        total, number = (column * blocks.by_rows(sums, rows, columns=n)).sum(1).unbind(1)
        return (total / _positive(number)).masked_fill(number == 0, 1)[:, None, None]

    mean_s, mean_t = (mean(*side) for side in sides)

    def penalty(rows_s: Tensor, rows_t: Tensor) -> Tensor:
        d_s, d_t = distance(rows_s, student) / mean_s, distance(rows_t, teacher) / mean_t
        return (F.smooth_l1_loss(d_s, d_t, reduction="none") @ column).squeeze(2)

    return (weight * blocks.by_rows(penalty, sides[0][0], sides[1][0], columns=n)).sum(1)


def _distance(rows: Tensor, others: Tensor) -> Tensor:
    square = rows.square().sum(2, keepdim=True)
    d = torch.baddbmm(square + others.square().sum(2).unsqueeze(1), rows, others.mT, alpha=-2)
    same = d <= 16 * torch.finfo(d.dtype).eps * square  # what rounding leaves of 0; the root has no gradient there
    return d.masked_fill(same, 1).sqrt().masked_fill(same, 0)


def _angles(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Sum over triplets of the Huber loss of cosines, `(sets,)`."""
    n, column = weight.shape[1], weight[:, None, :, None]

    def cosines(corners: Tensor, others: Tensor) -> Tensor:
        sides = unit(others.unsqueeze(1) - corners.unsqueeze(2), dim=3)
        return sides @ sides.mT

    def penalty(corners_s: Tensor, corners_t: Tensor) -> Tensor:
        h = F.smooth_l1_loss(cosines(corners_s, student), cosines(corners_t, teacher), reduction="none")
        return (column * (h @ column)).sum((2, 3))

    columns = n * max(n, student.shape[2], teacher.shape[2])
    return (weight * blocks.by_rows(penalty, student, teacher, columns=columns)).sum(1)


def _positive(number: Tensor) -> Tensor:
    return number.clamp_min(torch.finfo(number.dtype).tiny)
