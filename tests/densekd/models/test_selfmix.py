"""SelfMix: similar regions of one image, with their labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from densekd.models import SelfMixPreProcessor


def image_of(side: int = 32) -> Tensor:
    """Brightness grows from the left to the right, in noise."""
    slope = torch.arange(side).mul(6).expand(3, side, side)
    return (slope + torch.randint(40, (1, side, side))).to(torch.uint8)


def batch(images: list[Tensor]) -> dict[str, Any]:
    """The label of a pixel is its brightness, so that it can be told from the image."""
    samples = []
    for image in images:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=image[:1].long())
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def test_a_region_moves_with_its_labels_and_within_its_image() -> None:
    torch.manual_seed(0)
    images = [image_of(), image_of() // 2]
    mixed = SelfMixPreProcessor(share=0.25, size_divisor=32)(batch(images), training=True)
    for before, after, sample in zip(images, mixed["inputs"], mixed["data_samples"]):
        assert torch.equal(after[0].long(), sample.gt_sem_seg.data[0])
        changed = (after != before).any(0)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        assert 0 < changed.sum() <= 64
        assert max(rows.max() - rows.min(), columns.max() - columns.min()) < 8
        patch = after[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        h, w = patch.shape[1:]
        windows = before.float().unfold(1, h, 1).unfold(2, w, 1)
        assert (windows == patch[:, None, None]).all(-1).all(-1).all(0).any()  # it is somewhere in the same image


def test_the_region_is_a_similar_one() -> None:
    def changes(candidates: int) -> Tensor:
        torch.manual_seed(0)
        model = SelfMixPreProcessor(candidates=candidates, size_divisor=32)
        images = [image_of() for _ in range(40)]
        mixed = model(batch(images), training=True)["inputs"]
        return torch.stack([(a - b).abs().sum() for a, b in zip(mixed, images)]).mean()

    assert changes(12) < 0.6 * changes(1)


def test_only_in_training() -> None:
    images = [image_of()]
    assert torch.equal(SelfMixPreProcessor(size_divisor=32)(batch(images))["inputs"][0], images[0].float())


@pytest.mark.parametrize("options", [dict(share=1.0), dict(share=0.0), dict(candidates=0)])
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="SelfMix needs a share"):
        SelfMixPreProcessor(**options)


def test_every_label_map_moves_with_the_image_and_none_is_needed() -> None:
    torch.manual_seed(1)
    images = [image_of(), image_of()]
    given = batch(images)
    given["data_samples"][0].gt_edge_map = PixelData(data=images[0][:1].float() / 2)
    del given["data_samples"][1].gt_sem_seg
    mixed = SelfMixPreProcessor(size_divisor=32)(given, training=True)
    sample = mixed["data_samples"][0]
    assert not torch.equal(mixed["inputs"][0], images[0].float())
    assert torch.equal(2 * sample.gt_edge_map.data[0], mixed["inputs"][0, 0])
    assert torch.equal(sample.gt_sem_seg.data[0].float(), mixed["inputs"][0, 0])
    assert not torch.equal(mixed["inputs"][1], images[1].float())
