"""CutMix of the images without labels, and of no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from densekd.models import CutMixPreProcessor


def batch(labelled: list[bool], size: int = 32) -> dict[str, Any]:
    """Image n is n everywhere."""
    samples = []
    for known in labelled:
        sample = SegDataSample()
        labels = torch.full((1, size, size), 255)
        labels[:, 3, 4] = 0 if known else 255  # one pixel makes an image a labelled one
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    images = [torch.full((3, size, size), n, dtype=torch.uint8) for n in range(len(labelled))]
    return {"inputs": images, "data_samples": samples}


def test_unlabelled_images_are_mixed_with_each_other() -> None:
    torch.manual_seed(0)
    model = CutMixPreProcessor(size_divisor=32)
    for _ in range(5):
        inputs = model(batch([True, False, True, False, False]), training=True)["inputs"]
        for n in (0, 2):
            assert (inputs[n] == n).all()
        for n in (1, 3, 4):
            values, counts = inputs[n, 0].unique(return_counts=True)
            assert len(values) == 2
            assert n in values.tolist()
            assert set(values.tolist()) <= {1.0, 3.0, 4.0}
            assert 0.03 < 1 - counts[values == n].item() / 32**2 < 0.55  # boxes may overlap
            assert torch.equal(inputs[n, 0], inputs[n, 1])


def test_boxes_have_the_area() -> None:
    torch.manual_seed(0)
    model = CutMixPreProcessor(boxes=1, area=(0.3, 0.3))
    shares = torch.stack([model.mask(60, 40).float().mean() for _ in range(50)])
    assert (shares - 0.3).abs().max() < 0.03
    one = model.mask(60, 40)
    rows, columns = one.any(1), one.any(0)
    assert one.sum() == rows.sum() * columns.sum()  # a box


@pytest.mark.parametrize("labelled", [[True, True], [True, False]])
def test_nothing_to_mix(labelled: list[bool]) -> None:
    inputs = CutMixPreProcessor(size_divisor=32)(batch(labelled), training=True)["inputs"]
    assert all((image == n).all() for n, image in enumerate(inputs))


def test_only_in_training() -> None:
    inputs = CutMixPreProcessor(size_divisor=32)(batch([False, False]), training=False)["inputs"]
    assert all((image == n).all() for n, image in enumerate(inputs))


@pytest.mark.parametrize("options", [{"boxes": 0}, {"area": (0.5, 0.2)}, {"area": (0.0, 0.2)}, {"area": (0.2, 2)}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"CutMix needs a box and an area in \(0, 1\], got boxes="):
        CutMixPreProcessor(**options)
