"""Images of another distribution beside those of a batch of a segmenter."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmseg.models import SegDataPreProcessor
from torch import Tensor

import kdlosses
from densekd.registry import MODELS
from kdlosses.rules.mix_statistics import mix_statistics
from kdlosses.rules.mixup import mixup

POINTS = 512
"""Positions that `two_views` compares, at most."""


@MODELS.register_module()
class MixDistributionPreProcessor(SegDataPreProcessor):
    r"""mmseg's `SegDataPreProcessor`, which adds a copy of each image for training, with statistics of another one.

    A batch of B images becomes one of 2 B. The copies have mean and spread of each channel moved towards those of a
    partner of the batch, see `kdlosses.rules.mix_statistics`; what is where stays, and so do the labels. The share
    $\kappa$ of their own statistics that they keep is drawn from a Beta distribution. Student and teachers see both.
    One image alone has no partner, and its copy is as it is.

    Args:
        alpha: of the Beta distribution; 1 is uniform, towards 0 an image keeps its statistics or has its partner's.
        **kwargs: of `SegDataPreProcessor`.

    Raises:
        ValueError: `alpha` is not positive and finite.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images" (KD3), ICCV
    2023: MixDistribution, whose formula was not at hand; it mixes images by their classes there, by pairs here.
    """

    def __init__(self, *args: Any, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mixup(2, torch.Generator(), alpha, 1.0)  # what is out of range is said now
        self.alpha = alpha

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise, pad and stack as mmseg does; add the copies in training."""
        batch = super().forward(data, training)
        if training:
            images = batch["inputs"]
            draw = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            partner, keep = mixup(len(images), draw, self.alpha, 1.0)
            moved = mix_statistics(images, images[partner.to(images.device)], keep.to(images))
            batch["inputs"] = torch.cat([images, moved])
            batch["data_samples"] = [*batch["data_samples"], *map(copy.deepcopy, batch["data_samples"])]
        return batch


def two_views(student: Tensor, teacher: Tensor) -> Tensor:
    r"""InfoNCE between features of images and those of their copies, the second half of a batch.

    $$ L = \mathrm{InfoNCE}\big(h^s(\tilde x), h^s(x)\big) $$

    over positions, of which at most `POINTS` are drawn: a position is recognised among all others whatever the
    distribution of its image.

    Args:
        student: features `(2 B, C, *)` of a batch of `MixDistributionPreProcessor`.
        teacher: not read.
    """
    half = len(student) // 2
    return kdlosses.infonce(student[half:], student[:half], draw=POINTS)
