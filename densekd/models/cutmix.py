"""CutMix of unlabelled images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models import SegDataPreProcessor
from torch import Tensor

from densekd.registry import MODELS


@MODELS.register_module()
class CutMixPreProcessor(SegDataPreProcessor):
    """mmseg's `SegDataPreProcessor`, which then pastes boxes of unlabelled images into other unlabelled ones.

    Only batches for training are mixed, and in them only images of which every pixel is ignored: each gets boxes of
    another one, drawn anew. Student, teachers and pseudo labels use the mixed images.

    Args:
        boxes: how many boxes an image gets, n; where two overlap the image stays as it is.
        area: for each box a number is drawn from this range, and a random split of it into two factors; these, divided
            by the root of n, are the box's share of the image's height and width.
        **kwargs: of `SegDataPreProcessor`.

    Raises:
        ValueError: no box, or an area outside of [0, 1].

    Paper: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019; for segmentation French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations",
    BMVC 2020. Three boxes of 0.25 to 0.5 as in the code of Qin et al., ECCV 2022, see `densekd.methods.mgd_semi`.
    """

    def __init__(self, *args: Any, boxes: int = 3, area: Sequence[float] = (0.25, 0.5), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if boxes < 1 or not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"CutMix needs a box and an area in (0, 1], got boxes={boxes} and area={tuple(area)}")
        self.boxes, self.area = boxes, tuple(area)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise, pad and stack as mmseg does; mix in training."""
        batch = super().forward(data, training)
        if training:
            samples = batch["data_samples"]
            blank = [n for n, each in enumerate(samples) if (each.gt_sem_seg.data == self.seg_pad_val).all()]
            if len(blank) > 1:
                batch["inputs"][blank] = self.mixed(batch["inputs"][blank])
        return batch

    def mixed(self, images: Tensor) -> Tensor:
        """Images `(n, C, H, W)`, n of at least 2, each with boxes of another one."""
        others = images.roll(int(torch.randint(1, len(images), ())), dims=0)
        masks = torch.stack([self.mask(images.shape[2], images.shape[3]) for _ in images]).to(images.device)
        return torch.where(masks.unsqueeze(1), others, images)

    def mask(self, height: int, width: int) -> Tensor:
        """Boxes, `(H, W)` bool."""
        mask = torch.zeros(height, width, dtype=torch.bool)
        for _ in range(self.boxes):
            share = self.area[0] + (self.area[1] - self.area[0]) * torch.rand(()).item()
            high = math.exp(torch.rand(()).item() * math.log(share))  # from the share itself to 1
            scale = math.sqrt(self.boxes)
            h, w = max(1, round(high / scale * height)), max(1, round(share / high / scale * width))
            top, left = (int(torch.randint(0, free + 1, ())) for free in (height - h, width - w))
            mask[top : top + h, left : left + w] ^= True
        return mask
