from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.points import points


@register(most={"iterations": 10_000})
def sinkd(
    student: Tensor,
    teacher: Tensor,
    tau: float = 2.0,
    eps: float = 0.1,
    iterations: int = 20,
    draw: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Sinkhorn distance between the set of the student's predictions and the set of the teacher's.

    With rows $a_i, b_j$ the softmax of $z^s_i / \tau, z^t_j / \tau$, the cost $W_{ij} = \|a_i - b_j\|_1$ and
    $K = \exp(-W / \epsilon)$,

    $$ L = \frac1n \sum_{ij} P_{ij} W_{ij}, \qquad P = \mathrm{diag}(u) \, K \, \mathrm{diag}(v), $$

    where $u$ and $v$ come of scaling the rows, then the columns of P to sum to 1, `iterations` times. It compares sets:
    the teacher's rows may be permuted, so that it needs a loss per position (say `kl`) beside it. Entropic smoothing
    keeps it above 0 at equality, with a gradient. With weights the marginals are the weights (ours).

    A few n x n matrices are kept, whatever the number of iterations, and time goes with $n^2$: of a map `draw` a
    thousand positions or two, anew at each call; their distance is a little larger, as there are fewer partners.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        tau: temperature.
        eps: entropic smoothing; for $\epsilon \to 0$ and many iterations it is the cost of the best assignment.
        iterations: scalings of rows and columns.
        draw: number of positions to draw at random in each call, the same of both sides; all if not given.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: eps is so small that K (the cost is at most 2) leaves the range of the number type.

    Paper: Cui et al., "Sinkhorn Distance Minimization for Knowledge Distillation", COLING 2024. Their sum over all
    positions: factor n, so 0.8 * 0.001 n for their weights.

    >>> z = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    >>> sinkd(z, z) == sinkd(z, z.flip(0))
    tensor(True)
    """
    if eps <= 2 / -math.log(torch.finfo(student.dtype).tiny):
        raise ValueError(f"sinkd: eps {eps} is too small for {student.dtype}, the kernel exp(-2 / eps) would be 0")
    if draw is not None:
        rows_s, rows_t, kept = points(student, teacher, weight, view="batch", draw=draw)
        student, teacher, weight = rows_s[0], rows_t[0], None if weight is None else kept[0]
    a, b = (F.softmax(x / tau, dim=1).movedim(1, -1).flatten(0, -2) for x in (student, teacher))
    n = a.new_ones(len(a)) if weight is None else weight.flatten().to(a.dtype)
    if weight is not None:
        n = torch.where(n.sum() > 0, n, 1.0)  # an empty selection is transported, too, and counts nothing below
        a, b = (torch.where(n[:, None] > 0, x, 0.0) for x in (a, b))
    cost = torch.cdist(a, b, p=1)
    kernel = (-cost / eps).exp()
    v = torch.ones_like(n)
    for _ in range(iterations):
        u = 1 / (kernel @ (n * v))
        v = 1 / (kernel.T @ (n * u))
    return weighted_mean(u * ((kernel * cost) @ (n * v)), None if weight is None else weight.flatten())
