from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses import register
from kdlosses.reduce import shares
from kdlosses.relation.blocks import sum_by_rows
from kdlosses.unit import unit


@register(match="positions", categorical=True)
def cirkd_pairs(
    student: Tensor, teacher: Tensor, tau: float = 0.1, pool: int = 1, weight: Tensor | None = None
) -> Tensor:
    r"""Cross-image relations of the mini-batch: match each pixel's similarities to the pixels of every image.

    With $A_{im} = \mathrm{softmax}_{j \in m}(\cos(f_i, f_j) / \tau)$, pixel i over the pixels j of image m, its own and
    all others of the batch (on this device),

    $$ L = \mathrm{mean}_i \, \mathrm{mean}_m \, \mathrm{KL}\big(A^t_{im} \,\|\, A^s_{im}\big). $$

    Rotation and scale of either side change nothing, nor need the channels agree. Within one image it is `hybrid`.
    Pairs are held in blocks; their number is $(N h w)^2$, which `pool` divides by its fourth power.

    Args:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.
        tau: temperature.
        pool: side of the windows that are averaged first; at the right and at the bottom they may be smaller.
        weight: `(N, h, w)`, positions to count; an average is over those that do, and counts as their share.

    Paper: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022. Factor 1,
    weight 1. The authors' code has a `pool` of 2, meant for large maps.

    >>> import torch
    >>> f = torch.eye(2).view(1, 2, 1, 2)  # two pixels at a right angle
    >>> round(cirkd_pairs(f, torch.ones(1, 1, 1, 2), tau=1.0).item(), 4)  # KL((1/2, 1/2) || softmax(1, 0))
    0.1201
    """
    weight = student.new_ones(student[:, 0].shape) if weight is None else weight.to(student.dtype)
    if pool > 1:
        student, teacher, weight = _pooled(student, teacher, weight, pool)
    images, places = len(weight), weight[0].numel()
    s, t = (unit(x.flatten(2), dim=1).mT.reshape(1, images * places, -1) for x in (student, teacher))
    log_w = weight.log().clamp_min(torch.finfo(s.dtype).min / 4).view(1, 1, -1)

    def divergence(rows_s: Tensor, rows_t: Tensor, keys: Tensor) -> Tensor:
        log_q = torch.baddbmm(log_w, rows_s / tau, keys).unflatten(2, (images, places)).log_softmax(3)
        log_p = torch.baddbmm(log_w, rows_t / tau, t.mT).unflatten(2, (images, places)).log_softmax(3)
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum((2, 3))  # 0 over an image without pixels

    seen = (weight > 0).flatten(1).any(1).sum().clamp_min(1)
    share = shares(weight.flatten().unsqueeze(0))
    return sum_by_rows(divergence, share, s, t, s.mT, columns=images * places) / seen


def _pooled(student: Tensor, teacher: Tensor, weight: Tensor, pool: int) -> tuple[Tensor, Tensor, Tensor]:
    """Averages over windows, of what counts."""
    each = weight.unsqueeze(1)
    share = F.avg_pool2d(each, pool, ceil_mode=True)
    s, t = (
        F.avg_pool2d(x.masked_fill(each == 0, 0) * each, pool, ceil_mode=True) / share.masked_fill(share == 0, 1)
        for x in (student, teacher)
    )
    return s, t, share.squeeze(1)
