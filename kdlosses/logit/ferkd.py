from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.logit.smoothed import smoothed_cross_entropy
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register


@register
def ferkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    low: float = 0.1,
    medium: float = 0.3,
    high: float = 1.0,
    smoothing: float = 0.1,
    regions: int = 0,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Label calibration: the teacher's soft label where confident, else the true label; extremes are left out.

    With $p = \mathrm{softmax}(z^t)$, $q = \mathrm{softmax}(z^s)$ and $s_i$ the teacher's confidence, that is
    $\max_c p_{ic}$ of the position or, mined by region, its mean over the positions of a crop,

    $$ l_i = -\sum_c u_{ic} \log q_{ic}, \quad
       u_i = \begin{cases} \text{the label } y_i \text{, smoothed} & \text{low} \le s_i < \text{medium} \\
                           p_i & \text{medium} \le s_i \le \text{high} \end{cases}, \qquad
       L = \sum_i w_i l_i / \sum_i w_i, $$

    and positions with $s_i < \text{low}$ (nothing there to learn) or $s_i > \text{high}$ (too easy) have weight 0. A
    position is what the teacher judges as a whole: an image, a node, a pixel. Pixels are better judged together: with
    `regions` the hard crops of a map are found, and calibrated, as a whole. A position without a label has its soft
    label where that is what counts, and weight 0 where the true one would. With `low` and `medium` 0 and `high` 1 it is
    plain soft cross-entropy. SelfMix, which mixes similar regions of an image, is `densekd.SelfMixPreProcessor`.

    Args:
        student: logits `(N, C, *)`, C of at least 2.
        teacher: logits `(N, C, *)`; the logarithm of cached soft labels will do.
        labels: `(N, *)`, class indices; negative or `ignore_index`: no label.
        low: least confidence that counts.
        medium: least confidence for a soft label.
        high: greatest confidence that counts.
        smoothing: probability that a true label leaves to the other classes, see `label_smoothing`.
        regions: a map is cut into so many crops along each axis of space, which are judged as a whole; with 0 each
            position is judged by itself, and so is each node in any case.
        ignore_index: label that marks a position without a label.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the thresholds are out of order, or smoothing is not a probability below 1.

    Paper: Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation", ICCV 2023. Factor 1. The thresholds are
    not published: these are ours to start from.

    >>> s, y = torch.zeros(2, 2), torch.tensor([0, 0])
    >>> t = torch.tensor([[0.6, 0.4], [0.1, 0.9]]).log()
    >>> ferkd(s, t, labels=y, medium=0.7).item()  # a true and a soft label, log(2) for both
    0.6931...
    """
    if not 0 <= low <= medium <= high <= 1:
        raise ValueError(f"ferkd needs 0 <= low <= medium <= high <= 1, got {low}, {medium}, {high}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"ferkd: smoothing is a probability, from 0 to less than 1, got {smoothing}")
    labels, known = labelled(labels, weight, ignore_index, student.shape[1])
    log_q, p = F.log_softmax(student, dim=1), F.softmax(teacher, dim=1)
    sure = p.amax(1)
    if regions and sure.ndim > 1:
        sure = _of_crops(sure, weight, regions)
    true, soft = smoothed_cross_entropy(log_q, labels, 1 - smoothing), -(p * log_q).sum(1)
    unsure = sure < medium
    chosen = torch.where(unsure, (known > 0) & ~(sure < low), ~(sure > high))  # NaN stays
    return weighted_mean(torch.where(unsure, true, soft), chosen if weight is None else weight * chosen)


def _of_crops(sure: Tensor, weight: Tensor | None, regions: int) -> Tensor:
    """The mean over the crop that each position `(N, *)` lies in, of positions that count."""
    weight = torch.ones_like(sure) if weight is None else weight.to(sure.dtype)
    cell = torch.zeros_like(sure, dtype=torch.long)
    for axis, size in enumerate(sure.shape):  # each map has crops of its own
        cuts = size if axis == 0 else min(regions, size)
        place = torch.arange(size, device=sure.device) * cuts // size
        cell = cell * cuts + place.view(-1, *[1] * (sure.ndim - 1 - axis))
    cell = cell.flatten()
    count = sure.new_zeros(len(cell)).index_add(0, cell, weight.flatten())
    total = sure.new_zeros(len(cell)).index_add(0, cell, torch.where(weight > 0, sure * weight, 0).flatten())
    return (total / count.clamp_min(torch.finfo(sure.dtype).tiny))[cell].view_as(sure)
