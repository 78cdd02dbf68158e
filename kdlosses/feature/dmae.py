from __future__ import annotations

from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.unit import unit


@register(match="positions", categorical=True)
class DMAE(nn.Module):
    r"""Masked-input feature distillation: absolute error of normalised tokens on the visible part of the input.

    With $\hat f = f / \|f\|$ a token,

    $$ L = \sum_i w_i \frac{1}{C_t} \big\| \hat f^t_i - \widehat{R f^s_i} \big\|_1 \Big/ \sum_i w_i, $$

    $R$ linear. Teacher and student see the same masked input; `weight` is 1 on visible tokens. Beside it runs the
    reconstruction of the masked ones, which is the masked auto-encoder's own loss.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.

    `forward`:
        student: tokens `(N, C_s, *)`.
        teacher: tokens `(N, C_t, *)`.
        weight: `(N, *)`, tokens to count: the visible ones.

    Paper: Bai et al., "Masked Autoencoders Enable Efficient Knowledge Distillers", CVPR 2023. Factor 1; weight 1 on
    block 8 of 12 against block 17 of 24, mask ratio 0.75.

    >>> import torch
    >>> loss = DMAE(student_channels=2, teacher_channels=2)
    >>> tokens = torch.randn(4, 2)
    >>> loss(tokens, 3 * loss.projection(tokens)).item() < 1e-6  # lengths do not matter
    True
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.projection = Pointwise(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        difference = unit(self.projection(student), dim=1) - unit(teacher, dim=1)
        return weighted_mean(difference.abs().mean(1), weight)
