from __future__ import annotations

import torch
from torch import Tensor


def rad(gains: Tensor, k: float) -> Tensor:
    r"""Probability of querying the teacher on each point, where up to k of its answers may be wrong.

    A game: the learner draws a point i from p and gains $g_i$; an adversary knows p and makes k points worth nothing,

    $$ p = \arg\max_p \min_{|B| = k} \sum_{i \notin B} p_i g_i. $$

    With $g_1 \ge g_2 \ge \dots$ and $H_I = \sum_{i \le I} 1 / g_i$ its solution is

    $$ I^* = \arg\max_{I > k} \frac{I - k}{H_I}, \qquad
       p_i = \begin{cases} 1 / (g_i H_{I^*}) & i \le I^* \\ 0 & \text{else,} \end{cases} $$

    and its value $(I^* - k) / H_{I^*}$. The points worth asking about are those of largest gain, and among them the
    least is queried most, so that no answer is worth more than another. k = 0 queries the largest gain alone.

    Args:
        gains: `(n,)`, at least 0; what a right answer is worth.
        k: wrong answers to expect, not necessarily whole; less than n.

    Returns:
        p `(n,)`; uniform where no strategy gains anything.

    Raises:
        ValueError: a gain is negative or not finite, or k is out of range.

    Paper: Baykal et al., "Robust Active Distillation", ICLR 2023. The closed form was derived from the game as written
    here; the authors' own statement of it may differ.

    >>> rad(torch.tensor([4.0, 2.0, 0.1]), k=1)  # the value of the first two is 1.33, of all three 0.19
    tensor([0.3333, 0.6667, 0.0000])
    """
    if gains.ndim != 1 or not len(gains) or not bool((gains >= 0).all() and gains.isfinite().all()):
        raise ValueError("rad: gains must be a vector of finite numbers, at least 0, and not empty")
    if not 0 <= k < len(gains):
        raise ValueError(f"rad: k is a number of wrong answers, from 0 to less than the {len(gains)} points, got {k}")
    ordered, order = gains.double().sort(descending=True, stable=True)
    size = torch.arange(1, len(gains) + 1, device=gains.device)
    harmonic = (1 / ordered).cumsum(0)  # infinite from the first gain of 0 on, whose value is then 0
    value = torch.where(size > k, (size - k) / harmonic, -torch.inf)
    best = int(value.argmax())
    if not value[best] > 0:
        return torch.full_like(gains, 1 / len(gains))
    p = torch.where(size <= best + 1, 1 / ordered, 0) / harmonic[best]
    return torch.empty_like(gains).scatter(0, order, p.to(gains.dtype))
