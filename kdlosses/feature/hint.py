from __future__ import annotations

from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.registry import register
from kdlosses.squared_error import squared_error


@register(match="positions")
class Hint(nn.Module):
    r"""Hint: a learned regressor predicts the teacher's features from the student's.

    $$ L = \sum_i w_i \frac{1}{C_t} \|R f^s_i - f^t_i\|^2 \Big/ \sum_i w_i $$

    with $R$ linear at every position: a linear layer for nodes, a 1x1 convolution for maps. It is `mse` behind a
    regressor that trains with the student and is thrown away afterwards. $R$ has neither normalisation nor ReLU, unlike
    some code: behind a ReLU it could not reach the negative features of a teacher, and batch statistics would let
    masked positions in.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015. Factor 1 against the mean over all elements,
    whose usual weight is 100.

    >>> import torch
    >>> loss = Hint(student_channels=1, teacher_channels=2)
    >>> with torch.no_grad():
    ...     _ = loss.regressor.weight.fill_(1.0), loss.regressor.bias.zero_()
    >>> loss(torch.tensor([[1.0]]), torch.tensor([[0.0, 1.0]])).item()
    0.5
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.regressor = Pointwise(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        return squared_error(self.regressor(student), teacher, weight)
