"""SelfMix of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from torch import Tensor

from densekd.registry import MODELS


@MODELS.register_module()
class SelfMixPreProcessor(SegDataPreProcessor):
    """mmseg's `SegDataPreProcessor`, which then copies a region of each image onto a similar one of the same image.

    Only batches for training are mixed. A box is drawn, and of some others of its size, that which is most like it in
    the mean and spread of its channels is copied onto it, with all label maps of the sample. Student and teachers see
    the mixed image, so that soft labels are of what is there, and vary less than where another image is mixed in.

    Args:
        share: side of the box, in shares of the height and width of the image.
        candidates: how many other boxes are compared with it; 1 takes any.
        **kwargs: of `SegDataPreProcessor`.

    Raises:
        ValueError: a share outside of (0, 1), or no candidate.

    Paper: Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation", ICCV 2023, for mixing similar regions
    within an image; how similarity is measured is ours. Beside the loss `ferkd`.
    """

    def __init__(self, *args: Any, share: float = 0.3, candidates: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0 < share < 1 or candidates < 1:
            raise ValueError(f"SelfMix needs a share in (0, 1) and a candidate, got {share} and {candidates}")
        self.share, self.candidates = share, candidates

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise, pad and stack as mmseg does; mix in training."""
        batch = super().forward(data, training)
        if training:
            images = batch["inputs"].clone()
            for image, sample in zip(images, batch["data_samples"]):
                self.mix(image, [each.data for each in sample.all_values() if isinstance(each, PixelData)])
            batch["inputs"] = images
        return batch

    @torch.no_grad()
    def mix(self, image: Tensor, maps: Sequence[Tensor]) -> None:
        """Copy a region of an image `(C, H, W)`, and of its label maps `(1, H, W)`, onto a similar one, in place."""
        height, width = image.shape[1:]
        h, w = max(1, round(self.share * height)), max(1, round(self.share * width))
        tops = torch.randint(height - h + 1, (1 + self.candidates,)).tolist()
        lefts = torch.randint(width - w + 1, (1 + self.candidates,)).tolist()
        boxes = [(slice(None), slice(top, top + h), slice(left, left + w)) for top, left in zip(tops, lefts)]
        looks = torch.stack([_look(image[box].float()) for box in boxes])
        chosen = boxes[1 + int((looks[1:] - looks[0]).square().sum(1).argmin())]
        for each in (image, *maps):
            each[boxes[0]] = each[chosen].clone()


def _look(region: Tensor) -> Tensor:
    """Mean and spread of each channel of a region `(C, h, w)`."""
    return torch.cat([region.mean((1, 2)), region.std((1, 2), correction=0)])
