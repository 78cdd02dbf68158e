from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(match="positions", categorical=False, over_classes=False)
def assistive(
    student: Tensor,
    teacher: Tensor,
    truth: Literal["first"],
    beyond: Sequence[float] = (1.9, 1.8),
    within: Sequence[float] = (-0.45, -0.4),
    share: Sequence[float] = (1.0, 1.0),
    weight: Tensor | None = None,
) -> Tensor:
    r"""Regression with a tough and a tolerant teacher: each attracts a student of larger error, repels one of smaller.

    With $e = |s - g|$ the student's error in a coordinate and $d_k = |t_k - g|$ that of teacher k (the sign of an
    error does not matter), and $L$ the error of the last, tolerant teacher,

    $$ l = m(e) + \sum_k \lambda_k \, \varphi_k(e) \, |e - d_k|, \quad
       m(e) = \begin{cases} 3 e & e \le L \\ e^2 + 3 L - L^2 & e > L \end{cases}, \quad
       \varphi_k(e) = \begin{cases} \varphi_k^+ & e > d_k > 0 \\ \varphi_k^- & 0.15 \, d_k \le e \le d_k \\
                                    0 & \text{else} \end{cases} $$

    averaged over coordinates and positions. $\varphi^- < 0$ pushes a student that is better than its teacher on towards
    the truth. The value jumps where $\varphi$ changes. At the truth it is 0, but with all $\lambda = 1$ and two
    teachers of error d the least value is -0.2725 d, at $e = 0.15 d$: keep $\lambda$ small.

    Args:
        student: predictions `(N, C, *)`.
        teacher: `(N, (1 + K) C, *)`: the truth, then the K teachers, the tolerant one last, all along axis 1. With no
            teacher at all it is $3 e$.
        truth: `'first'`: the first C channels of the teacher are the truth. An entry with
            `source=['truth', 'tough', 'tolerant']` need not say so; elsewhere a teacher would be taken for the truth.
        beyond: $\varphi^+$ of each teacher.
        within: $\varphi^-$ of each teacher.
        share: $\lambda$ of each teacher (the authors record none).
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the teacher's channels are not those of the truth and of as many teachers as there are numbers;
            these are not as many in each list.

    The tolerant teacher learns soft targets, see `kdlosses.soft_targets.SoftTargets`, the tough one the truth.

    Paper: Fard and Mahoor, "Facial Landmark Points Detection Using Knowledge Distillation-Based Neural Networks", 2022.
    Mean over all elements: factor 1.

    >>> truth, tough, tolerant = torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.tensor([[-2.0]])
    >>> stacked = torch.cat([truth, tough, tolerant], dim=1)
    >>> round(assistive(torch.tensor([[1.5]]), stacked, truth="first").item(), 2)  # 3 * 1.5 + 1.9 * 0.5 - 0.4 * 0.5
    5.25
    """
    if not len(beyond) == len(within) == len(share):
        raise ValueError(
            f"assistive: beyond, within and share need a number for each teacher, got {len(beyond)}, {len(within)} and "
            f"{len(share)}"
        )
    target, *teachers = teacher.split(student.shape[1], dim=1)
    if teacher.shape[1] % student.shape[1] or (teachers and len(teachers) != len(beyond)):
        raise ValueError(
            f"assistive: the teacher needs {1 + len(beyond)} times the student's {student.shape[1]} channels (the "
            f"truth, then {len(beyond)} teachers), got {teacher.shape[1]}"
        )
    error = (student - target).abs()
    each = 3 * error
    if teachers:
        bound = (teachers[-1] - target).abs()
        each = torch.where(error <= bound, each, error.square() + 3 * bound - bound.square())
    for t, plus, minus, factor in zip(teachers, beyond, within, share):
        d = (t - target).abs()
        phi = torch.full_like(d, factor * plus).masked_fill_(error <= d, factor * minus)
        phi.masked_fill_((error < 0.15 * d) | (d == 0), 0.0)
        each = each + phi * (error - d).abs()
    return weighted_mean(each.mean(1), weight)
