from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses import register
from kdlosses.reduce import weighted_mean


@register(match="positions", name="gkd")
class GKD(nn.Module):
    r"""Query-based soft distillation: the student asks the teacher's positions, and rebuilds its map from the answer.

    With learned linear maps of the student's features, each after a layer norm,

    $$ \hat f_i = \sum_j \mathrm{softmax}_j (W_q f^s_i \cdot f^t_j) \, W_v f^s_j, \qquad
       L = \mathrm{mean}_{i,c} (\hat f_{ic} - f^t_{ic})^2. $$

    Queries and values are the student's, keys the teacher's: a position of the teacher is made of what the student has
    wherever the teacher looks alike, and need not be where it is. The products are not scaled. One head.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.

    `forward`:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.
        weight: `(N, h, w)`, positions to count; the others are not asked either.

    Paper: Lv et al., "Generalizable Knowledge Distillation from Vision Foundation Models for Semantic Segmentation",
    CVPR 2026. Factor 1, weight 1. It is a loss for a first stage without labels, after which the backbone is frozen and
    the head learns the task. The authors' code has two terms more: the same loss on the class token, and on patches of
    which half are masked, in a student that has a mask token.

    >>> import torch
    >>> loss = GKD(student_channels=3, teacher_channels=4)
    >>> loss(torch.randn(2, 3, 5, 6), torch.randn(2, 4, 5, 6)) > 0
    tensor(True)
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(student_channels), nn.Linear(student_channels, teacher_channels))
        self.value = nn.Sequential(nn.LayerNorm(student_channels), nn.Linear(student_channels, teacher_channels))

    def rebuild(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the teacher's map `(N, C_t, h, w)`, made of the student's."""
        tokens, keys = student.flatten(2).mT, teacher.flatten(2).mT
        seen = None if weight is None else weight.flatten(1).to(tokens.dtype).log().unsqueeze(1).unsqueeze(1)
        if seen is not None:  # a map of which nothing counts must not be a softmax of nothing
            seen = seen.clamp_min(torch.finfo(tokens.dtype).min / 4)
        q, k, v = (x.unsqueeze(1) for x in (self.query(tokens), keys, self.value(tokens)))
        # memory-efficient attention kernels need a width that is a multiple of 8; zeros change nothing
        width = -(-v.shape[3] // 8) * 8
        q, k, v = (F.pad(x, (0, width - x.shape[3])) for x in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1.0)
        return found[:, 0, :, : teacher.shape[1]].mT.unflatten(2, teacher.shape[2:])

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_mean((self.rebuild(student, teacher, weight) - teacher).square().mean(1), weight)
