from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def g2sd(
    student: Tensor, teacher: Tensor, beta: float = 2.0, eps: float = 1e-6, weight: Tensor | None = None
) -> Tensor:
    r"""Generic-to-specific distillation, generic stage: predict the normalised hidden state of the teacher's decoder.

    With $\mathrm{LN}$ the layer normalisation over channels, without affine parameters, and $h$ the smooth L1 loss,

    $$ L = \sum_i w_i \frac1C \sum_c h\big(f^s_{ic} - \mathrm{LN}(f^t_i)_c\big) \Big/ \sum_i w_i, \qquad
       h(d) = \begin{cases} d^2 / 2 \beta & |d| < \beta \\ |d| - \beta / 2 & \text{else.} \end{cases} $$

    Only the teacher is normalised, so its scale and shift at a position do not matter, and a student equal to the
    teacher is at the minimum only if the teacher is normalised already. The specific stage, on labels and the teacher's
    hard decision, is a cross-entropy each.

    Args:
        student: prediction of the student's decoder `(N, C, *)`.
        teacher: hidden state of the teacher's decoder `(N, C, *)`.
        beta: where the loss turns from square to linear.
        eps: added to the variance.
        weight: `(N, *)`, positions to count: all tokens, or the masked ones.

    Paper: Huang et al., "Generic-to-Specific Distillation of Masked Autoencoders", CVPR 2023. Factor 1.

    >>> import torch
    >>> g2sd(torch.tensor([[1.0, 0.0]]), torch.tensor([[30.0, 10.0]])).item()  # LN: (1, -1); (0 + 1 / 4) / 2
    0.125
    """
    if beta <= 0:
        raise ValueError(f"g2sd: beta must be positive, got {beta}")
    teacher = F.layer_norm(teacher.movedim(1, -1), teacher.shape[1:2], eps=eps).movedim(-1, 1)
    if weight is None:
        return F.smooth_l1_loss(student, teacher, beta=beta)  # the same in one fused pass
    return weighted_mean(F.smooth_l1_loss(student, teacher, reduction="none", beta=beta).mean(1), weight)
