from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdlosses.pointwise import Pointwise
from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.squared_error import squared_error
from kdlosses.unit import unit


@register(name="prockd", match="positions")
class ProCKD(nn.Module):
    r"""ProCKD: match the soft assignment of positions to prototypes of local parts, learned from the teacher.

    With K learned prototypes M, $a_i = \mathrm{softmax}_k(\cos(f^t_i, M_k) / \tau)$ for the teacher and $b_i$ the same
    of $W f^s_i$, W linear and learned,

    $$ L = \underbrace{\mathrm{mean}_{i,c} \big( (a_i M)_c - f^t_{ic} \big)^2}_{\text{learns M}}
         + \lambda \underbrace{\mathrm{KL}(U \,\|\, \mathrm{mean}_i a_i)}_{\text{uses all of M}}
         + \mathrm{mean}_i \, \mathrm{KL}(a_i \,\|\, b_i), $$

    U uniform. The last term alone teaches the student, with a and M held fixed: the label spaces of the two sides need
    not agree, and neither need the channels. Changing the order of the prototypes changes nothing.

    Args:
        student_channels: $C_s$.
        teacher_channels: $C_t$.
        prototypes: K.
        tau: temperature.
        balance: $\lambda$.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Li et al., "Prototype-guided Cross-task Knowledge Distillation for Large-scale Models", 2022, for the idea.
    The formula is our own; the paper's augmentation of the student's features by prototypes is a change of the student
    and no part of this loss.

    >>> import torch
    >>> loss = ProCKD(student_channels=3, teacher_channels=4, prototypes=8)
    >>> loss(torch.randn(5, 3), torch.randn(5, 4)) > 0
    tensor(True)
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        prototypes: int = 64,
        tau: float = 0.1,
        balance: float = 1.0,
    ) -> None:
        super().__init__()
        self.projection = Pointwise(student_channels, teacher_channels, bias=False)
        self.prototypes = nn.Parameter(torch.randn(prototypes, teacher_channels))
        self.tau, self.balance = tau, balance

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        weight = None if weight is None else weight.flatten()
        rows = teacher.movedim(1, -1).flatten(0, -2)
        log_a = _log_shares(rows, self.prototypes, self.tau)
        a = log_a.exp()
        learn = squared_error(a @ self.prototypes, rows, weight)

        weight = rows.new_ones(len(rows)) if weight is None else weight.to(rows.dtype)
        share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        used = share @ a
        spread = -math.log(used.numel()) - used.clamp_min(torch.finfo(used.dtype).tiny).log().mean()
        spread = spread * (weight > 0).any()

        projected = self.projection(student).movedim(1, -1).flatten(0, -2)
        log_b = _log_shares(projected, self.prototypes.detach(), self.tau)
        teach = (a.detach() * (log_a.detach() - log_b)).sum(1)
        return learn + self.balance * spread + weighted_mean(teach, weight)


def _log_shares(rows: Tensor, prototypes: Tensor, tau: float) -> Tensor:
    """Log of how much each row of `(n, C)` resembles each prototype, `(n, K)`."""
    return (unit(rows, dim=1) @ unit(prototypes, dim=1).mT / tau).log_softmax(1)
