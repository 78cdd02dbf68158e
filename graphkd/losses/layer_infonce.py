from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.contrastive.infonce import find_own
from kdlosses.pointwise import Pointwise
from kdlosses.reduce import labelled
from kdlosses.relation.points import points
from kdlosses.unit import unit


@register(name="layer_infonce", match="positions")
class LayerInfoNCE(nn.Module):
    r"""One level of LinguGKD: InfoNCE from a node to its language-model features, against nodes of other classes.

    $$ t'_j = W \bigl( U \, \mathrm{LN}(\mathrm{PReLU}(V t_j + b)) + c \bigr), \quad
       u_{ij} = \cos(s_i, t'_j) / \tau, \qquad
       L = - \frac1n \sum_i \log \frac{e^{u_{ii}}}{e^{u_{ii}} + \sum_{j :\, y_j \ne y_i} e^{u_{ij}}} $$

    in nats. Other nodes of one's own class are no negatives; where there is no node of another class the loss is 0.
    V, b, the layer normalisation LN, U, c and W learn with the student and vanish after the training; the student's
    features are compared as they are. In LinguGKD all levels have one W, see the recipe `lingugkd`. Pairs are held in
    blocks.

    Args:
        student_channels: width of the student's level.
        teacher_channels: width of the teacher's vectors.
        tau: temperature.
        dropout: share of LN(...) dropped in training.
        ignore_index: label that marks a position to leave out.
        both: our own form, without U and c: W is applied to the student's features, too.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: vectors `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.
        labels: `(N, *)`, class indices; without them all others are negatives. Negative or `ignore_index` means weight
            0.

    Paper: Hu et al., "Large Language Model Meets Graph Neural Network in Knowledge Distillation", 2024, as in its code;
    factor 1.

    >>> import torch
    >>> loss = LayerInfoNCE(student_channels=3, teacher_channels=2)
    >>> loss(torch.randn(4, 3), torch.randn(4, 2), labels=torch.zeros(4, dtype=torch.long)).item()  # no negative
    0.0
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        tau: float = 0.07,
        dropout: float = 0.0,
        ignore_index: int = 255,
        both: bool = False,
    ) -> None:
        super().__init__()
        self.tau, self.dropout, self.ignore_index, self.both = tau, dropout, ignore_index, both
        self.teacher = Pointwise(teacher_channels, student_channels)
        self.slope = nn.PReLU()
        self.norm = nn.LayerNorm(student_channels)
        self.inner = nn.Identity() if both else Pointwise(student_channels, student_channels)
        self.shared: nn.Module = Pointwise(student_channels, student_channels, bias=False)

    def forward(
        self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        if labels is not None:
            labels, weight = labelled(labels, weight, self.ignore_index)
            counts = (weight > 0).unsqueeze(1)  # before the projections, whose gradients a NaN would reach
            student, teacher = student.where(counts, 0), teacher.where(counts, 0)
        told = self.norm(self.slope(self.teacher(teacher)).movedim(1, -1)).movedim(-1, 1)
        told = self.shared(self.inner(F.dropout(told, self.dropout, self.training)))
        mine = self.shared(student) if self.both else student
        if labels is not None:  # an extra channel carries the label
            told = torch.cat([told, labels.unsqueeze(1).to(told.dtype)], dim=1)
        mine, told, weight = points(mine, told, weight)
        classes = None
        if labels is not None:
            told, classes = told[..., :-1], told[..., -1]
        return find_own(unit(mine, dim=2), unit(told, dim=2), weight, classes, self.tau)
