from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.squared_error import squared_error


@register
def norm_feature(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Squared error of a layer over the energy of the teacher's layer, so that all layers have the same scale.

    $$ L = \sum_i w_i \|f^s_i - f^t_i\|^2 \Big/ \sum_i w_i \|f^t_i\|^2 $$

    One layer a call; the entries of several layers, all of one weight, add up to the whole. Scaling both sides of a
    layer changes nothing, and a student of zeros scores 1, whatever the size of the layer. Where the
    teacher's layer is all zeros the mean squared error stays as it is.

    Args:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Zhang et al., "LAPTOP-Diff: Layer Pruning and Normalized Distillation for Compressing Diffusion Models",
    2024, for the idea of balancing layers by magnitude. The normaliser, the teacher's energy, is our choice.

    >>> import torch
    >>> norm_feature(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 3.0]])).item()
    0.1...
    """
    energy = teacher.square()
    energy = energy.mean() if weight is None else weighted_mean(energy.mean(1), weight)
    return squared_error(student, teacher, weight) / energy.masked_fill(energy == 0, 1)
