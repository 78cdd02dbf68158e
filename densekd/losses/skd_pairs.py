from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses import register, rsd_gram
from kdlosses.unit import unit


@register(match="positions", categorical=True)
def skd_pairs(student: Tensor, teacher: Tensor, pool: int = 2, weight: Tensor | None = None) -> Tensor:
    r"""Pair-wise term of structured distillation: match the cosines between the patches of an image.

    The maximum over windows of `pool` x `pool` positions, channel by channel, makes a patch of each; with $a_{ij}$ the
    cosine between patches i and j of one image,

    $$ L = \mathrm{mean}_{n,i,j} \, \big(a^s_{nij} - a^t_{nij}\big)^2 \;\in [0, 4]. $$

    It is `rsd_gram` of patches of length 1: what it holds is C x C where there are more patches than channels. Channels
    need not agree.

    Args:
        student: features `(N, C_s, h, w)`.
        teacher: features `(N, C_t, h, w)`.
        pool: side of a window; at the right and at the bottom it may be smaller.
        weight: `(N, h, w)`, positions to count: a maximum is over those of positive weight, and a patch counts as the
            heaviest in it.

    Paper: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019. Factor 1, weight 10.
    The first code of the authors pools windows of half the map instead, which leaves 2 x 2 patches, and stops the
    gradient of the norm.

    >>> import torch
    >>> maps = torch.eye(2).view(1, 2, 1, 2)  # two patches at a right angle
    >>> round(skd_pairs(maps, torch.ones(1, 3, 1, 2), pool=1).item(), 4)  # 0 against 1 in two of four pairs
    0.5
    """
    weight = student.new_ones(student[:, 0].shape) if weight is None else weight.to(student.dtype)
    out, weight = (weight == 0).unsqueeze(1), F.max_pool2d(weight, pool, ceil_mode=True)

    def patches(features: Tensor) -> Tensor:
        highest = F.max_pool2d(features.masked_fill(out, -torch.inf), pool, ceil_mode=True)
        return unit(highest.masked_fill((weight == 0).unsqueeze(1), 0), dim=1)

    return rsd_gram(patches(student), patches(teacher), view="sample", weight=weight)
