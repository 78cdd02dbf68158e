from __future__ import annotations

import torch
from torch import Tensor


def domain_weights(
    student: Tensor, teacher: Tensor, previous: Tensor | None = None, smoothing: float = 0.5, floor: float = 0.1
) -> Tensor:
    r"""Sampling weights of domains: higher where the student is further behind the teacher.

    $$ r_d = \frac{\max(\ell^s_d - \ell^t_d, 0)}{\sum_e \max(\ell^s_e - \ell^t_e, 0)}, \qquad
       w_d = \beta \, w'_d + (1 - \beta) \Big( (1 - \epsilon) \, r_d + \frac{\epsilon}{D} \Big) $$

    with $w'$ the weights so far. The gap is taken, not the student's loss: a domain that is as hard for the teacher has
    nothing to give. No gap anywhere gives uniform r.

    Args:
        student: mean loss of the student on each domain, `(D,)`.
        teacher: likewise of the teacher.
        previous: $w'$; uniform if not given.
        smoothing: $\beta$, from 0 to less than 1; 0 forgets what was.
        floor: $\epsilon$, from 0 to 1; keeps every domain in play, 1 draws all alike.

    Returns:
        w `(D,)`, at least 0 with sum 1.

    Raises:
        ValueError: an option is out of range, or a loss is not finite.

    Paper: after Liu et al., "DDK: Distilling Domain Knowledge for Efficient Large Language Models", 2024, which also
    samples domains by the smoothed gap between student and teacher. Gap, smoothing and floor in this form are our own.

    >>> domain_weights(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 0.0]), smoothing=0.0, floor=0.0)
    tensor([0.7500, 0.2500])
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"domain_weights: smoothing must lie in [0, 1), got {smoothing}")
    if not 0 <= floor <= 1:
        raise ValueError(f"domain_weights: floor must lie in [0, 1], got {floor}")
    gap = (student - teacher).clamp_min(0)
    if not gap.isfinite().all():
        raise ValueError(f"domain_weights: the losses must be finite, got {student.tolist()} and {teacher.tolist()}")
    even = torch.full_like(gap, 1 / len(gap))
    ratio = gap / gap.sum() if gap.sum() > 0 else even
    return smoothing * (even if previous is None else previous) + (1 - smoothing) * torch.lerp(ratio, even, floor)
