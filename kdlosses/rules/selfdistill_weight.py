from __future__ import annotations

import torch
from torch import Tensor


def selfdistill_weight(target: Tensor, taught: Tensor, retaught: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Optimal weight of the labels against a teacher, in closed form from two fits instead of a grid.

    $$ a^* = \arg\min_a \big\| y - (a f + (1 - a) g) \big\|^2
           = \frac{\langle y - g, f - g \rangle}{\| f - g \|^2}, \qquad
       \langle u, v \rangle = \sum_i w_i \sum_c u_{ic} v_{ic} $$

    f is what a model predicts that was fitted to the labels, g one that was fitted to the teacher's outputs, y the
    truth, all on positions that neither was fitted to. Where the fit is linear in its targets, as in kernel ridge
    regression, a fit to the mixed targets predicts $a f + (1 - a) g$ and $a^*$ is exact; for a network it is an
    approximation.

    Args:
        target: y, one-hot or any values `(N, C, *)`.
        taught: f, `(N, C, *)`: probabilities of a classifier, not logits.
        retaught: g, likewise.
        weight: `(N, *)`, positions to count.

    Returns:
        $a^*$, a scalar. It may lie outside of 0 to 1, where one of the fits is no help; it is 0.5 where the two agree.

    Paper: Borup, Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation", NeurIPS 2021.

    >>> y = torch.tensor([[1.0], [0.0]])
    >>> selfdistill_weight(y, y, 1 - y).item(), selfdistill_weight(y, y, y).item()
    (1.0, 0.5)
    """
    return weight_of(selfdistill_products(target, taught, retaught, weight))


def selfdistill_products(target: Tensor, taught: Tensor, retaught: Tensor, weight: Tensor | None = None) -> Tensor:
    """The two sums of `selfdistill_weight`, `(2,)`, to be added up over batches: above and below the line."""
    apart = taught - retaught
    each = torch.stack([((target - retaught) * apart).sum(1), apart.square().sum(1)])
    counted = each if weight is None else torch.where(weight > 0, each * weight, 0)
    return counted.flatten(1).sum(1)


def weight_of(products: Tensor) -> Tensor:
    """The weight from the sums of `selfdistill_products`.

    >>> weight_of(torch.tensor([1.0, 4.0])).item()
    0.25
    """
    product, square = products
    same = square == 0
    return (product / square.masked_fill(same, 1)).masked_fill(same, 0.5)
