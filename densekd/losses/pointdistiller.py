from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.reduce import nothing
from kdlosses.relation.blocks import BLOCK


@register(name="pointdistiller", match="positions", infinite=("tau",), maps=False)
class PointDistiller(nn.Module):
    r"""PointDistiller: match the local geometry around the most important voxels or points.

    Of each sample the N most important positions i are taken, and for each the K positions $\mathcal N_i$ nearest to it
    in the *teacher's* feature space, i among them; the student uses the same. With A and B learned matrices and BN the
    normalisation of a channel over all pairs of the batch,

    $$ G_{ij} = \mathrm{ReLU}\big(\mathrm{BN}(A f_j + B f_i)\big), \qquad
       L = \mathrm{mean}_i \, w_i \, \mathrm{mean}_{j \in \mathcal N_i,\, c} \, (G^t_{ijc} - G^s_{ijc})^2, \qquad
       w_i = N \, \mathrm{softmax}_i(v_i / \tau), $$

    the mean over samples of that. A voxel with $m_i$ points has the importance $v_i = \log(1 + m_i)$, so that at
    $\tau = 1$ its weight is proportional to $1 + m_i$; where there are no counts, as on maps, $v_i$ is the maximum of
    the teacher's channels. At infinite $\tau$ all weigh 1. The channels of the two sides need not agree.

    The teacher's matrices are random and fixed: if both sides learned, two constants would be a solution. Where the
    widths agree the student's begin as the teacher's, and the loss of a student equal to the teacher is 0.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        crucial: N; all positions where there are fewer (published: 6,000 voxels of a batch, 256 cells of a map).
        neighbours: K; all positions where there are fewer (published: 128 of voxels, 256 of cells).
        width: channels of G.
        tau: temperature $\tau$ of the weights.
        importance: `log`, or `count` for $v_i = m_i$.
        teacher_learns: learn the teacher's matrices, too.

    `forward`:
        student: `(P, C_s)`, voxels or points, or maps `(B, C_s, h, w)` whose cells are positions.
        teacher: `(P, C_t)` or `(B, C_t, h, w)`.
        weight: `(P,)` or `(B, h, w)`, positions to count; those of weight 0 are no neighbours, either.
        batch: `(P,)`, sample of each voxel: without it all are of one. Each map is a sample.
        point_counts: `(P,)`, points in each voxel, up to its limit.

    Raises:
        ValueError: an option out of range, or `batch` or `point_counts` of another length than the student.

    Paper: Zhang et al., "PointDistiller: Structured Knowledge Distillation Towards Efficient and Compact 3D Detection",
    CVPR 2023. Weight 2. The published weights are `importance='count', tau=0.01` for voxels, which leaves all of the
    weight to the densest, and `teacher_learns=True`; `log` and the random matrices are our own choice. So is to search
    neighbours and to share out weights within a sample: the authors' code does both in the voxels of a whole batch. Its
    weights of a map are a softmax over one number, `tau=math.inf` here.

    >>> loss = PointDistiller(student_channels=2, teacher_channels=4, crucial=3, neighbours=2)
    >>> loss(torch.zeros(5, 2), torch.rand(5, 4), point_counts=torch.tensor([9, 1, 1, 5, 1])) > 0
    tensor(True)
    >>> same = PointDistiller(student_channels=4, teacher_channels=4)
    >>> f = torch.rand(2, 4, 3, 3)
    >>> same(f, f).item()
    0.0
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        crucial: int = 6000,
        neighbours: int = 128,
        width: int = 32,
        tau: float = 1.0,
        importance: str = "log",
        teacher_learns: bool = False,
    ) -> None:
        super().__init__()
        if importance not in ("log", "count"):
            raise ValueError(f"pointdistiller: importance must be 'log' or 'count', got {importance!r}")
        self.crucial, self.neighbours, self.tau, self.importance = crucial, neighbours, tau, importance
        self.student = Aggregation(student_channels, width)
        self.teacher = Aggregation(teacher_channels, width).requires_grad_(teacher_learns)
        if student_channels == teacher_channels:
            self.student.load_state_dict(self.teacher.state_dict())

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        weight: Tensor | None = None,
        batch: Tensor | None = None,
        point_counts: Tensor | None = None,
    ) -> Tensor:
        values = self._importance(student, teacher, batch, point_counts)
        samples = _split(student, teacher, values, weight, batch)
        if not samples:
            return nothing(student)
        places = []
        for _, g, v, _ in samples:
            centres = most_important(v, g, self.crucial)
            places.append((centres, nearest(g, centres, self.neighbours)))
        told = self.teacher([g for _, g, _, _ in samples], places)
        apart = self.student([f for f, _, _, _ in samples], places) - told
        parts = apart.square().mean(1).split([near.numel() for _, near in places])
        return torch.stack(
            [
                torch.dot((v[centres] / self.tau + w[centres].log()).softmax(0), part.view_as(near).mean(1))
                for (_, _, v, w), (centres, near), part in zip(samples, places, parts)
            ]
        ).mean()

    def _importance(
        self, student: Tensor, teacher: Tensor, batch: Tensor | None, point_counts: Tensor | None
    ) -> Tensor:
        for name, given in (("batch", batch), ("point_counts", point_counts)):
            if given is not None and (student.ndim != 2 or given.shape != student.shape[:1]):
                raise ValueError(
                    f"pointdistiller: {name} must have one number for each voxel, got {tuple(given.shape)} for a "
                    f"student of shape {tuple(student.shape)}"
                )
        if point_counts is None:
            return teacher.amax(1)
        points = point_counts.to(teacher.dtype)
        return points.log1p() if self.importance == "log" else points


class Aggregation(nn.Module):
    """G of `PointDistiller`. A convolution over (neighbour, centre) is a matrix for each: no pair has to be stacked.

    Its statistics are always those of the batch: the loss is of no use outside of training.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.of_neighbour = nn.Linear(channels, width, bias=False)
        self.of_centre = nn.Linear(channels, width, bias=False)
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, features: Sequence[Tensor], places: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return G `(pairs, width)` of each sample's features `(P, C)` at its centres `(N,)`, neighbours `(N, K)`."""
        g = [
            (self.of_neighbour(f)[near] + self.of_centre(f[centres]).unsqueeze(1)).flatten(0, 1)
            for f, (centres, near) in zip(features, places)
        ]
        made = torch.batch_norm(torch.cat(g), self.scale, self.shift, None, None, True, 0.0, 1e-5, False)
        return F.relu(made, inplace=True)


def most_important(values: Tensor, features: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` greatest values `(P,)`, or of all if there are fewer.

    Of equal values, as whole numbers often are, the greater sum of the features `(P, C)` comes first, so that the order
    of the positions has no effect.

    >>> most_important(torch.tensor([1.0, 3.0, 1.0, 1.0]), torch.tensor([[0.0], [1.0], [5.0], [2.0]]), 2)
    tensor([1, 2])
    """
    if count >= len(values):
        return torch.arange(len(values), device=values.device)
    order = features.sum(1).argsort(descending=True)
    return order[values[order].argsort(descending=True, stable=True)[:count]]


@torch.no_grad()
def nearest(features: Tensor, centres: Tensor, k: int) -> Tensor:
    """Return the k positions whose features `(P, C)` are nearest to those of each centre `(N,)`, itself among them.

    Distances are held in blocks. Where there are fewer than k positions it is all of them.

    >>> nearest(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([1, 3]), k=2)
    tensor([[1, 0],
            [3, 2]])
    """
    lengths, k = features.square().sum(1), min(k, len(features))
    found = [  # the squared distance less that of the centre from 0, the same for all of a row
        torch.addmm(lengths, block, features.mT, alpha=-2).topk(k, dim=1, largest=False).indices
        for block in features[centres].split(max(1, BLOCK // len(features)))
    ]
    return torch.cat(found)


def _split(
    student: Tensor, teacher: Tensor, values: Tensor, weight: Tensor | None, batch: Tensor | None
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of each sample that has a position to count: student and teacher `(P, C)`, values and weight `(P,)` of those."""
    counts = torch.ones_like(values) if weight is None else weight.to(values.dtype)
    if student.ndim > 2:
        maps = zip(student.flatten(2).mT, teacher.flatten(2).mT, values.flatten(1), counts.flatten(1))
        samples = list(maps)
    elif batch is None:
        samples = [(student, teacher, values, counts)]
    else:
        members = [batch == sample for sample in batch.unique()]
        samples = [(student[m], teacher[m], values[m], counts[m]) for m in members]
    if weight is not None:
        kept = [each[3] > 0 for each in samples]
        samples = [(f[m], g[m], v[m], w[m]) for (f, g, v, w), m in zip(samples, kept)]
    return [each for each in samples if len(each[3])]
