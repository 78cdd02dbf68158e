from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def start_near(student: nn.Module, teacher: nn.Module, near: float = 1e-10) -> None:
    r"""Move a new student's weights towards a teacher of the same architecture, fully or in part.

    $$ \theta \leftarrow \frac{(1 - a) \, \theta_T + a \, \theta}{\sqrt{a^2 + (1 - a)^2}} $$

    The root keeps the variance of two independent initialisations. At a = 0 the student is the teacher, at a = 1 it
    stays where it is.

    Args:
        student: changed in place; its own random parameters are $\theta$.
        teacher: not changed.
        near: a, 0 to 1.

    Raises:
        ValueError: `near` is no share, or the two have parameters of other names or shapes.

    Paper: Sarnthein et al., "Random Teachers are Good Teachers", ICML 2023.

    >>> a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> start_near(a, b, near=0.0)
    >>> torch.equal(a.weight, b.weight)
    True
    """
    if not 0 <= near <= 1:
        raise ValueError(f"start_near: near is a share, 0 (the teacher) to 1 (where the student is), got {near}")
    theirs = dict(teacher.named_parameters())
    mine = dict(student.named_parameters())
    for name in sorted(mine.keys() | theirs.keys()):
        found = [tuple(which[name].shape) if name in which else None for which in (mine, theirs)]
        if found[0] != found[1]:
            raise ValueError(
                f"start_near: the student's parameter {name!r} is {found[0]}, the teacher's {found[1]}; a start near "
                "the teacher needs the same architecture"
            )
    scale = math.hypot(near, 1 - near)
    for name, parameter in mine.items():
        parameter.mul_(near / scale).add_(theirs[name], alpha=(1 - near) / scale)
