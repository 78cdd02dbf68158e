"""Mixup in a batch of mmseg."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from densekd.models import MixUpPreProcessor

LIGHT = dict(mean=[0.0] * 3, std=[1.0] * 3, size=(8, 8))


def batch() -> dict[str, list[object]]:
    samples = []
    for n in range(4):
        sample = SegDataSample(metainfo={"img_shape": (8, 8)})
        sample.gt_sem_seg = PixelData(data=torch.full((1, 8, 8), n))
        samples.append(sample)
    return {"inputs": [torch.full((3, 8, 8), 50 * n, dtype=torch.uint8) for n in range(4)], "data_samples": samples}


def test_images_and_labels_are_mixed_alike_in_training_alone() -> None:
    torch.manual_seed(0)
    model = MixUpPreProcessor(**LIGHT)
    data = batch()
    found = model(data, training=True)
    labels = torch.stack([each.gt_sem_seg.data[0] for each in found["data_samples"]])
    assert any(len(each.unique()) == 2 for each in labels)
    for image, label in zip(found["inputs"], labels):
        own = label.unique().tolist()
        assert 50 * min(own) <= image[0, 0, 0] <= 50 * max(own)
        assert len(image.unique()) == 1
    still = model(batch(), training=False)
    assert [each.unique().tolist() for each in still["inputs"]] == [[0.0], [50.0], [100.0], [150.0]]


def test_a_share_of_the_images() -> None:
    found = MixUpPreProcessor(**LIGHT, share=0.5)(batch(), training=True)
    whole = [n for n in range(4) if found["inputs"][n, 0, 0, 0] == 50 * n]
    assert len(whole) >= 2
    with pytest.raises(ValueError, match="mixup: share is the part of the samples"):
        MixUpPreProcessor(**LIGHT, share=1.5)
