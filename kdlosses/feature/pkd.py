from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import centred
from kdlosses.registry import register


@register
def pkd(student: Tensor, teacher: Tensor, eps: float = 1e-6, weight: Tensor | None = None) -> Tensor:
    r"""Pearson feature matching: mean squared error between channels that are standardised over the batch.

    With $\tilde f_c = (f_c - \mu_c) / (\sigma_c + \epsilon)$, mean and unbiased deviation taken over all n positions,

    $$ L = \tfrac12 \, \mathrm{mean}_{i,c} \big(\tilde f^s_{ic} - \tilde f^t_{ic}\big)^2
         = \tfrac{n-1}{n} \, \mathrm{mean}_c \big(1 - r_c\big), $$

    where $r_c$ is Pearson's correlation of channel c. Scale and shift of a channel do not matter, which is what lets
    detectors of different kinds teach each other.

    Args:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        eps: added to the deviation.
        weight: `(N, *)`, positions to count; weights enter mean and deviation.

    Paper: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
    NeurIPS 2022. Factor 1; weight 10 on each neck level of a one-stage detector, 6 of a two-stage one.

    >>> import torch
    >>> f = torch.tensor([[0.0], [1.0], [5.0]])
    >>> round(pkd(f, 3 * f + 2).item(), 5), round(pkd(f, -f).item(), 3)  # 2 (n - 1) / n
    (0.0, 1.333)
    """
    positions = (0, *range(2, student.ndim))
    student, student_norm, n = centred(student, weight, positions)
    teacher, teacher_norm, _ = centred(teacher, weight, positions)
    root = (n - 1).clamp_min(1).sqrt()
    difference = student / (student_norm / root + eps) - teacher / (teacher_norm / root + eps)
    return 0.5 * difference.square().mean(1).sum() / n
