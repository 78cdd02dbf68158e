from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.reduce import count, weighted_mean
from kdlosses.registry import register


@register(categorical=True, over_classes=True)
class DINO(nn.Module):
    r"""Self-distillation without labels: match the teacher's assignment to prototypes, centred and sharpened.

    With $z^s, z^t$ the scores of K prototypes and c a moving mean of the teacher's,

    $$ a_i = \mathrm{softmax}((z^t_i - c) / \tau_t), \quad b_i = \mathrm{softmax}(z^s_i / \tau_s), \qquad
       L = - \frac1n \sum_i \sum_k a_{ik} \log b_{ik}, \qquad c \leftarrow m c + (1 - m)\, \bar z^t $$

    in nats. The two sides are views of the same things. Where the teacher is a moving average of the student both could
    agree on one prototype for all: centring is against that, and a low $\tau_t$ against assigning each to all alike.
    The centre moves after the loss is computed, in training mode alone.

    Args:
        channels: K, of both sides.
        student_tau: $\tau_s$.
        teacher_tau: $\tau_t$.
        momentum: m, in [0, 1).

    `forward`:
        student: scores `(N, K, *)`.
        teacher: scores `(N, K, *)`.
        weight: `(N, *)`, positions to count, also in the mean that moves the centre.

    Raises:
        ValueError: a temperature that is not positive, or a momentum out of range.

    Paper: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021. Factor 1. There
    $\tau_t$ rises from 0.04 to 0.07 in the first epochs; the mean over processes is left to the caller.

    >>> import torch
    >>> loss = DINO(channels=2, student_tau=1.0, teacher_tau=1.0)
    >>> loss(torch.zeros(4, 2), torch.tensor([[3.0, 0.0]] * 4)).item()  # log(2)
    0.6931...
    >>> loss.centre
    tensor([0.3000, 0.0000])
    """

    centre: Tensor

    def __init__(
        self, channels: int, student_tau: float = 0.1, teacher_tau: float = 0.04, momentum: float = 0.9
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"dino: momentum must be in [0, 1), got {momentum}")
        self.student_tau, self.teacher_tau, self.momentum = student_tau, teacher_tau, momentum
        self.register_buffer("centre", torch.zeros(channels))

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        centre = self.centre.to(teacher.dtype).view(-1, *[1] * (teacher.ndim - 2))
        shares = ((teacher - centre) / self.teacher_tau).softmax(1)
        value = weighted_mean(-(shares * (student / self.student_tau).log_softmax(1)).sum(1), weight)
        if self.training:
            self._move(teacher, weight)
        return value

    @torch.no_grad()
    def _move(self, teacher: Tensor, weight: Tensor | None) -> None:
        rows = teacher.movedim(1, -1).flatten(0, -2)
        w = rows.new_ones(len(rows)) if weight is None else weight.flatten().to(rows.dtype)
        step = (w @ rows / count(w) - self.centre) * (1 - self.momentum)
        self.centre.add_(torch.where(w.sum() > 0, step, 0).to(self.centre.dtype))
