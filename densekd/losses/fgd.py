from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.pointwise import Pointwise
from kdlosses.reduce import weighted_mean


@register(name="fgd")
class FGD(nn.Module):
    r"""Focal and global distillation: objects and background apart, where the teacher attends, and their relations.

    With the attention of a map over its $P = h w$ positions and C channels,

    $$ A_i = P \, \mathrm{softmax}_i \Big( \frac1\tau \mathrm{mean}_c |f_{ic}| \Big), \qquad
       A_c = C \, \mathrm{softmax}_c \Big( \frac1\tau \mathrm{mean}_i |f_{ic}| \Big), $$

    the foreground $M_i = 1 / (h_b w_b)$ in the cells of a box b (the largest value where boxes overlap, else 0), and
    the background $B_i = 1$ outside of all boxes, divided by the number of these cells,

    $$ L = \mathrm{mean}_n \Big[ \sum_{i,c} (\alpha M_i + \beta B_i) A^t_i A^t_c (f^s_{ic} - f^t_{ic})^2
       + \gamma \Big( \sum_i |A^s_i - A^t_i| + \sum_c |A^s_c - A^t_c| \Big)
       + \lambda \sum_{i,c} \big( \mathcal R_s(f^s)_{ic} - \mathcal R_t(f^t)_{ic} \big)^2 \Big]. $$

    A small box counts as much as a large one. $\mathcal R(f) = f + W_2 \, \mathrm{ReLU}(\mathrm{LN}(W_1 \sum_i
    \mathrm{softmax}_i(v \cdot f_i) f_i))$ adds to each position the context of the whole map; both sides have one of
    their own, learned, with $W_2$ zero at the start. The cells of a box reach from the floor of its first to the
    ceiling of its last coordinate, both included, as in the authors' code; cells beyond the map do not count.

    Args:
        channels: C, of both sides: unlike channels are aligned before.
        tau: temperature of the attention.
        alpha: weight of the foreground.
        beta: weight of the background.
        gamma: weight of the attention.
        lam: $\lambda$, weight of the relations.

    `forward`:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.
        boxes: of each image `(n, 4)`, xyxy in positions of the map.

    Paper: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022. Factor 1, and the sums are
    those of the authors' code: weights are published for images of 800x1333. The sums over attention and relations grow
    with the number of positions, those under a mask do not. Defaults are those of RetinaNet and GFL in the authors'
    configs; the method `fgd` has the others.

    >>> import torch
    >>> loss = FGD(channels=4)
    >>> f, boxes = torch.randn(1, 4, 6, 8), [torch.tensor([[1.0, 1.0, 3.0, 3.0]])]
    >>> loss(f, f, boxes=boxes).item(), loss(f + 1, f, boxes=boxes).item() > 0
    (0.0, True)
    """

    def __init__(
        self,
        channels: int,
        tau: float = 0.5,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 5e-4,
        lam: float = 5e-6,
    ) -> None:
        super().__init__()
        self.tau, self.alpha, self.beta, self.gamma, self.lam = tau, alpha, beta, gamma, lam
        self.of_student, self.of_teacher = Context(channels), Context(channels)

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        where, which = self._attention(teacher)
        where_s, which_s = self._attention(student)
        foreground = torch.stack([of_boxes(each.to(student.dtype), student.shape[2:]) for each in boxes])
        background = (foreground == 0).to(student.dtype)
        background = background / background.sum((1, 2), keepdim=True).clamp_min(1)
        mask = (self.alpha * foreground + self.beta * background).flatten(1) * where
        error = (student - teacher).square().flatten(2)
        focal = (which.unsqueeze(1) @ error @ mask.unsqueeze(2)).flatten()
        attention = (where_s - where).abs().sum(1) + (which_s - which).abs().sum(1)
        relation = (self.of_student(student) - self.of_teacher(teacher)).square().sum((1, 2, 3))
        return weighted_mean(focal + self.gamma * attention + self.lam * relation)

    def _attention(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Attention over positions `(N, P)` and channels `(N, C)`, of mean 1 each."""
        size = features.abs().flatten(2)
        where, which = (F.softmax(size.mean(axis) / self.tau, dim=1) for axis in (1, 2))
        return where * where.shape[1], which * which.shape[1]


class Context(nn.Module):
    """Add the pooled context of the whole map to each position, as a block of GCNet does; at the start nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.attend = Pointwise(channels, 1)
        nn.init.kaiming_normal_(self.attend.weight, nonlinearity="relu")
        nn.init.zeros_(self.attend.bias)
        last = nn.Linear(inner, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.change = nn.Sequential(nn.Linear(channels, inner), nn.LayerNorm(inner), nn.ReLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        weights = F.softmax(self.attend(features).flatten(2), dim=2)
        pooled = (features.flatten(2) @ weights.mT).squeeze(2)
        return features + self.change(pooled)[..., None, None]


def of_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return for each cell `(h, w)` 1 / (number of cells) of the smallest box that covers it, 0 where none does.

    >>> of_boxes(torch.tensor([[0.5, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 1.0]]), (2, 4)).mul(12).long().tolist()
    [[3, 3, 2, 0], [3, 3, 2, 0]]
    """
    if not len(boxes):
        return boxes.new_zeros(*size)
    first, last = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    area = (last - first + 1).prod(1).clamp_min(1)  # of corners in the wrong order none is covered
    covers = []
    for axis, count in ((1, size[0]), (0, size[1])):
        cells = torch.arange(count, device=boxes.device, dtype=first.dtype)
        covers.append((cells >= first[:, axis : axis + 1]) & (cells <= last[:, axis : axis + 1]))
    return (covers[0].unsqueeze(2) & covers[1].unsqueeze(1)).to(area.dtype).div(area.view(-1, 1, 1)).amax(0)
