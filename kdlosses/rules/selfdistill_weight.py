from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import weighted_mean


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

    >>> import torch
    >>> y = torch.tensor([[1.0], [0.0]])
    >>> selfdistill_weight(y, y, 1 - y).item(), selfdistill_weight(y, y, y).item()
    (1.0, 0.5)
    """
    apart = taught - retaught
    square = weighted_mean(apart.square().sum(1), weight)
    product = weighted_mean(((target - retaught) * apart).sum(1), weight)
    same = square == 0
    return (product / square.masked_fill(same, 1)).masked_fill(same, 0.5)
