"""Mixup in a batch of a segmenter."""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models import SegDataPreProcessor

from densekd.registry import MODELS
from kdlosses.rules.mixed_scenes import mixed_scenes
from kdlosses.rules.mixup import mixup


@MODELS.register_module()
class MixUpPreProcessor(SegDataPreProcessor):
    """mmseg's `SegDataPreProcessor`, which then mixes images of a batch for training with one another.

    The teacher sees the mixed image, as the student does. Each pixel has the label of one of the two, drawn in the
    proportion of the mixture, see `kdlosses.rules.mixed_scenes`.

    Args:
        alpha: of the Beta distribution; 1 is uniform, towards 0 one of the two is nearly kept as it is.
        share: of the images to mix.
        **kwargs: of `SegDataPreProcessor`.

    Raises:
        ValueError: `alpha` is not positive, or `share` no share.

    Paper: Choi et al., "Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study", WACV 2023: with
    the loss `std_kd`, and a part of the batch alone; the option 0.9 of its code is `share=0.41`.
    """

    def __init__(self, *args: Any, alpha: float = 1.0, share: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mixup(2, torch.Generator(), alpha, share)  # what is out of range is said now
        self.alpha, self.mixed_share = alpha, share

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise, pad and stack as mmseg does; mix in training."""
        batch = super().forward(data, training)
        if training:
            samples = batch["data_samples"]
            maps = torch.stack([each.gt_sem_seg.data[0] for each in samples])
            draw = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            batch["inputs"], maps = mixed_scenes(batch["inputs"], maps, draw, self.alpha, self.mixed_share)
            for sample, labels in zip(samples, maps):
                sample.gt_sem_seg.data = labels[None]
        return batch
