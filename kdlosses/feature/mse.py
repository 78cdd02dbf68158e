from __future__ import annotations

from torch import Tensor

from kdlosses.registry import register
from kdlosses.squared_error import squared_error


@register
def mse(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Mean squared error of features, averaged over channels and positions.

    $$ L = \sum_i w_i \frac1C \sum_c (f^s_{ic} - f^t_{ic})^2 \Big/ \sum_i w_i $$

    The regressor of FitNets stands outside the loss: `adapt` in a dense entry, a linear layer in a graph recipe.

    Args:
        student: features `(N, C, *)`.
        teacher: features `(N, C, *)`.
        weight: `(N, *)`, positions to count.

    Paper: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015. Weights of other code times this factor are
    weights here: sum over channels, C; sum over everything by batch size, C H W; mean over all elements, 1.

    >>> import torch
    >>> mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])).item()
    2.5
    """
    return squared_error(student, teacher, weight)
