from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses import register, weighted_mean
from kdlosses.reduce import labelled
from kdlosses.resized import labels_at
from kdlosses.unit import unit


@register(categorical=True)
def bsd_region(
    student: Tensor,
    teacher: Tensor,
    label_map: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    cells: int = 8,
    ties: bool = True,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Selective distillation of regions: match features in the cells where the teacher's cross-entropy is lower.

    The map is cut into cells r. With $e_r$ the mean cross-entropy of each side over the labelled positions of a cell
    and $a_r$ the mean of its features at these, scaled to length 1,

    $$ L = \frac{1}{|R|} \sum_{r \in R} [e^t_r \le e^s_r] \, \|a^t_r - a^s_r\|^2, $$

    R the cells of all images in which anything is labelled. For mutual distillation use two of these losses, one of
    them with `ties=False`, so that each cell is taught in one direction.

    Args:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.
        label_map: classes `(N, H, W)` at the size of the image.
        student_logits: class logits of the network that learns, `(N, K, *, *)`, of any size.
        teacher_logits: class logits of the other one.
        cells: along each axis; no more than a map has positions there.
        ties: whether cells count in which both are equally good.
        ignore_index: label that does not count; neither do negative ones.
        weight: `(N, h, w)`, positions to count.

    Paper: Zhu et al., "A Good Student is Cooperative and Reliable: CNN-Transformer Collaborative Learning for Semantic
    Segmentation", ICCV 2023, for the idea. Its formulas were not available to us: this form is our own. Factor 1,
    weight 0.1.

    >>> import torch
    >>> s, t = torch.randn(2, 1, 3, 8, 8)
    >>> labels, good = torch.zeros(1, 32, 32).long(), torch.zeros(1, 2, 8, 8).index_fill(1, torch.tensor(0), 2.0)
    >>> bsd_region(s, t, labels, student_logits=-good, teacher_logits=good).item() > 0
    True
    >>> bsd_region(s, t, labels, student_logits=good, teacher_logits=-good).item()
    0.0
    """
    size = min(cells, student.shape[2]), min(cells, student.shape[3])
    weight = torch.ones_like(student[:, 0]) if weight is None else weight.to(student.dtype)
    mine, votes = _errors(student_logits.detach(), label_map, weight, size, ignore_index)
    its, more_votes = _errors(teacher_logits, label_map, weight, size, ignore_index)
    worse = ~(mine < its) if ties else ~(mine <= its)
    weight = weight * _labels(label_map, student.shape[2:], ignore_index)[1]
    s, t = (unit(F.adaptive_avg_pool2d(x * weight.unsqueeze(1), size), dim=1) for x in (student, teacher))
    counted = (votes > 0) & (more_votes > 0) & (F.adaptive_avg_pool2d(weight, size) > 0)
    return weighted_mean(torch.where(worse, (s - t).square().sum(1), 0), counted)


def _labels(
    label_map: Tensor, size: Sequence[int], ignore_index: int, classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Classes of a map of this size by nearest neighbour, and which of them count."""
    return labelled(labels_at(label_map, size), None, ignore_index, classes)


def _errors(
    logits: Tensor, label_map: Tensor, weight: Tensor, size: tuple[int, int], ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of each cell `(N, *size)`, and the share of its positions that it is the mean of."""
    if logits.ndim != 4:
        raise ValueError(f"bsd_region: the logits must be maps (N, C, H, W), got {tuple(logits.shape)}")
    at = logits.shape[2:]
    labels, valid = _labels(label_map, at, ignore_index, logits.shape[1])
    votes = valid.to(weight.dtype) * F.interpolate(weight.unsqueeze(1), size=at, mode="nearest")[:, 0]
    each = F.cross_entropy(logits.detach(), labels, reduction="none").to(weight.dtype)
    share = F.adaptive_avg_pool2d(votes, size)
    return F.adaptive_avg_pool2d(each * votes, size) / share.masked_fill(share == 0, 1), share
