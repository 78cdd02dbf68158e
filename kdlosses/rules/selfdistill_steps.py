from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

M = TypeVar("M")


def selfdistill_steps(
    fit: Callable[[M | None, float, bool], M],
    compare: Callable[[M, M], float],
    steps: int,
    teacher: M | None = None,
    weights: Sequence[float] | None = None,
) -> tuple[M, list[float]]:
    r"""Self-distillation in several steps, each with the best weight of the labels.

    $$ f_t = \mathrm{fit}\big(a_t y + (1 - a_t) f_{t-1}\big), \qquad
       a_t = \frac{\langle y - g_t, f - g_t \rangle}{\| f - g_t \|^2} \text{ on held-out positions}, $$

    with f a fit to the labels and $g_t$ one to what $f_{t-1}$ says, both without the held-out labels, see
    `kdlosses.rules.selfdistill_weight`. Each fit starts anew. A weight outside of 0 to 1 is reported as it is and taken
    as the nearer end.

    Args:
        fit: of a teacher or None, the weight of the labels, and whether on all labels; returns what it has fitted.
        compare: of f and $g_t$; returns $a_t$.
        steps: how many.
        teacher: $f_0$; a fit to the labels if not given.
        weights: given weights, one for each step, in place of those that are found.

    Returns:
        the last fit, and the weights as they were found.

    Raises:
        ValueError: no step, not as many weights, or a given one that is no share.

    Paper: Borup, Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation", NeurIPS 2021.

    >>> def fit(teacher, weight, whole):
    ...     return weight * 1.0 + (1 - weight) * (teacher or 0.0) / 2
    >>> selfdistill_steps(fit, lambda f, g: 0.5, steps=2)
    (0.6875, [0.5, 0.5])
    """
    if steps < 1 or (weights is not None and len(weights) != steps):
        raise ValueError(
            f"selfdistill: steps count from 1, each with a weight; got {steps} steps and weights {weights}"
        )
    if weights is not None and not all(0 <= weight <= 1 for weight in weights):
        raise ValueError(f"selfdistill: a weight of the labels lies in 0 to 1, got {weights}")
    current = fit(None, 1.0, True) if teacher is None else teacher
    taught = fit(None, 1.0, False) if weights is None else None
    found: list[float] = []
    for step in range(steps):
        if taught is not None:
            found.append(compare(taught, fit(current, 0.0, False)))
        elif weights is not None:
            found.append(weights[step])
        current = fit(current, min(max(found[-1], 0.0), 1.0), True)
    return current, found
