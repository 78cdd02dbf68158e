from __future__ import annotations

from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.registry import register
from kdlosses.squared_error import squared_error


@register(match="positions")
class LEAF(nn.Module):
    r"""LEAF: train the student's embeddings in the teacher's embedding space.

    $$ L = \sum_i w_i \frac{1}{C_t} \|W f^s_i + b - e^t_i\|^2 \Big/ \sum_i w_i $$

    Unlike the regressor of `hint`, the output layer stays: at inference `loss.output(features)` is the embedding, to be
    compared with the student's or the teacher's alike, so an index built by the teacher serves queries of the student.
    No labels, no negatives; the teacher's embeddings are computed once and cached.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.

    `forward`:
        student: features `(N, C_s, *)` before the output layer.
        teacher: embeddings `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Vujanic, Rueckstiess, "LEAF: Knowledge Distillation of Text Embedding Models with Teacher-Aligned
    Representations", 2025. Factor 1 against a mean over dimensions, $C_t$ against a sum.

    >>> import torch
    >>> loss = LEAF(student_channels=2, teacher_channels=3)
    >>> features = torch.randn(4, 2)
    >>> loss(features, loss.output(features)).item()
    0.0
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.output = Pointwise(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        return squared_error(self.output(student), teacher, weight)
