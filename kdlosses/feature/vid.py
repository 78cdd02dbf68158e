from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(match="positions")
class VID(nn.Module):
    r"""Variational information distillation: Gaussian likelihood of the teacher's features given the student's.

    $$ L = \sum_i w_i \frac{1}{2 C_t} \sum_c \Big[ \frac{(R(f^s)_{ic} - f^t_{ic})^2}{v_c} + \log v_c \Big]
         \Big/ \sum_i w_i, \qquad v_c = \mathrm{softplus}(a_c) + \epsilon, $$

    in nats, without the constant $\tfrac12 \log 2 \pi$; it can be negative. The regressor $R$ (three linear maps a
    position with ReLU between) and the variance of every channel are learned: channels of the teacher that the student
    cannot predict get a large variance and stop mattering.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        hidden_channels: width inside the regressor; $C_t$ if not given.
        variance: $v_c$ at the start.
        eps: least variance.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019. Factor 1. The variances
    learn here as in the paper; code that keeps them in a plain list never trains them, which makes a scaled MSE of it.

    >>> import torch
    >>> loss = VID(student_channels=3, teacher_channels=4)
    >>> loss.variance()
    tensor([5.0000, 5.0000, 5.0000, 5.0000], grad_fn=<AddBackward0>)
    >>> loss(torch.randn(8, 3), torch.randn(8, 4)).shape
    torch.Size([])
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        hidden_channels: int | None = None,
        variance: float = 5.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if not variance > eps > 0:
            raise ValueError(f"vid: 0 < eps < variance must hold, got eps {eps} and variance {variance}")
        hidden = hidden_channels or teacher_channels
        self.regressor = nn.Sequential(
            Pointwise(student_channels, hidden),
            nn.ReLU(),
            Pointwise(hidden, hidden),
            nn.ReLU(),
            Pointwise(hidden, teacher_channels),
        )
        self.raw_variance = nn.Parameter(torch.full((teacher_channels,), math.log(math.expm1(variance - eps))))
        self.eps = eps

    def variance(self) -> Tensor:
        """The variance of every channel of the teacher, `(C_t,)`."""
        return F.softplus(self.raw_variance) + self.eps

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        variance = self.variance().view(-1, *[1] * (teacher.ndim - 2))
        likelihood = (self.regressor(student) - teacher).square() / variance + variance.log()
        return 0.5 * weighted_mean(likelihood.mean(1), weight)
