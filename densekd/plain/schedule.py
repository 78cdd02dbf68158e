"""The learning rate of `densekd.fit`."""

from __future__ import annotations

import math


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: up over the first twentieth of the steps, then down to 0 as a cosine.

    >>> [round(rate(step, 41), 3) for step in (0, 1, 2, 21, 40)]
    [0.333, 0.667, 1.0, 0.52, 0.002]
    """
    rise = steps // 20
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (steps - rise))
