"""A map read where an augmented image lies is the map of that image, computed by other means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densekd.cache.geometry import Place, crop_of, replay
from densekd.cache.pipeline import PLACED, kind_of, record, refused, whole_image

H, W = 48, 64


def placed(transforms: list[dict[str, Any]], image: np.ndarray) -> tuple[np.ndarray, Place]:
    """Run a pipeline of mmseg and return its image with its place."""
    import mmseg.datasets  # noqa: F401 - registers the transforms
    from mmengine.registry import TRANSFORMS, DefaultScope

    with DefaultScope.overwrite_default_scope("mmseg"):
        steps = [TRANSFORMS.build(each) for each in transforms]
    record(steps, 0)
    results: Any = {"img": image, "sample_idx": 3, "gt_seg_map": image[..., 0].astype(np.uint8)}
    results |= {"seg_fields": ["gt_seg_map"], "img_shape": image.shape[:2]}
    for step in steps:
        results = step(results)
    return results["img"], results[PLACED]


AUGMENTATIONS = [
    [{"type": "RandomCrop", "crop_size": (20, 30)}],
    [{"type": "RandomFlip", "prob": 1.0}],
    [{"type": "RandomFlip", "prob": 1.0, "direction": "vertical"}],
    [{"type": "RandomFlip", "prob": 1.0, "direction": "diagonal"}, {"type": "RandomCrop", "crop_size": (17, 9)}],
    [
        {"type": "RandomCrop", "crop_size": (40, 40)},
        {"type": "RandomFlip", "prob": 1.0},
        {"type": "Pad", "size": (99, 99)},
    ],
    [
        {"type": "RandomResize", "scale": (W, H), "ratio_range": (0.6, 1.8)},
        {"type": "RandomCrop", "crop_size": (20, 20)},
    ],
    [{"type": "RandomChoiceResize", "scales": [(32, 24), (96, 72)]}, {"type": "RandomFlip", "prob": 0.5}],
    [
        {"type": "RandomApply", "transforms": [{"type": "RandomCrop", "crop_size": (20, 30)}], "prob": 0.5},
        {
            "type": "RandomChoice",
            "transforms": [[{"type": "RandomFlip", "prob": 1.0}], [{"type": "CenterCrop", "crop_size": (16, 12)}]],
        },
    ],
]


@pytest.mark.parametrize("transforms", AUGMENTATIONS)
def test_the_place_says_which_pixel_is_where(transforms: list[dict[str, Any]]) -> None:
    """An image whose values are its own coordinates tells where each of its pixels went."""
    y, x = np.meshgrid(np.arange(H) + 0.5, np.arange(W) + 0.5, indexing="ij")
    image = np.stack([x, y, np.zeros_like(x)], -1).astype(np.float32)
    for seed in range(8):
        np.random.seed(seed)  # noqa: NPY002 - the generator that the transforms draw from
        moved, place = placed(transforms, image)
        height, width = moved.shape[:2]
        rows, columns = (np.arange(height) + 0.5) * place.ay + place.by, (np.arange(width) + 0.5) * place.ax + place.bx
        inside = slice(2, min(height, 40) - 2), slice(2, min(width, 40) - 2)  # not where a resize repeats the edge
        if any(each["type"] == "Pad" for each in transforms):
            inside = slice(0, 40), slice(0, 40)
        np.testing.assert_allclose(moved[inside][..., 0], np.broadcast_to(columns, (height, width))[inside], atol=0.02)
        np.testing.assert_allclose(
            moved[inside][..., 1], np.broadcast_to(rows[:, None], (height, width))[inside], atol=0.02
        )


def test_replay_agrees_with_torch() -> None:
    """Without a crop a resize is F.interpolate; with everything it is F.grid_sample with replicated borders."""
    torch.manual_seed(0)
    maps = torch.randn(5, 12, 16)
    half = replay(maps, Place(), Place().resized((48, 64), (72, 96)), (4, 4), (18, 24))
    expected = F.interpolate(maps[None], size=(18, 24), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(half, expected, atol=1e-5, rtol=1e-5)
    seen = Place().resized((96, 128), (48, 64))
    wanted = Place().resized((96, 128), (60, 80)).cropped(7, 11).flipped((40, 48), "horizontal")
    found = replay(maps, seen, wanted, (4, 4), (10, 12))
    x = ((torch.arange(12) + 0.5) * 4 * wanted.ax + wanted.bx) / 2 / 64 * 2 - 1
    y = ((torch.arange(10) + 0.5) * 4 * wanted.ay + wanted.by) / 2 / 48 * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None].float()
    expected = F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_aligned_positions_are_copied() -> None:
    maps = torch.randn(3, 12, 16)
    assert replay(maps, Place(), Place(), (8, 8), (12, 16)) is maps
    crop = Place().cropped(16, 40).flipped((64, 48), "diagonal")
    assert torch.equal(replay(maps, Place(), crop, (8, 8), (8, 6)), maps[:, 2:10, 5:11].flip(1, 2))


def test_crops_of_flipped_images() -> None:
    image = np.zeros((9, 11, 3), np.uint8)
    for down in (1, -1):
        for right in (1, -1):
            seen = image[::down, ::right]
            for top in (0, 4, 5):
                for left in (0, 3, 8):
                    assert crop_of(seen, seen[top : top + 4, left : left + 3]) == (top, left)
    assert crop_of(image, np.zeros((4, 4, 3), np.uint8)) is None


def test_whole_images_have_no_chance() -> None:
    import mmseg.datasets  # noqa: F401
    from mmengine.registry import TRANSFORMS, DefaultScope

    with DefaultScope.overwrite_default_scope("mmseg"):
        steps = [
            TRANSFORMS.build(each)
            for each in (
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations"},
                {"type": "RandomResize", "scale": (64, 48), "ratio_range": (0.5, 2.0), "keep_ratio": True},
                {"type": "RandomChoiceResize", "scales": [(64, 48), (128, 96), (32, 24)]},
                {"type": "RandomCrop", "crop_size": (8, 8)},
                {"type": "RandomApply", "transforms": [{"type": "RandomFlip", "prob": 1.0}]},
                {"type": "PhotoMetricDistortion"},
                {"type": "CLAHE"},
                {"type": "PackSegInputs"},
            )
        ]
        rotate = TRANSFORMS.build({"type": "RandomRotate", "prob": 1.0, "degree": 10})
        nested = TRANSFORMS.build({"type": "RandomApply", "transforms": [{"type": "RandomRotFlip"}]})
    names = [kind_of(each) for each in whole_image(steps)]
    assert names == ["LoadImageFromFile", "LoadAnnotations", "Resize", "Resize", "CLAHE", "PackSegInputs"]
    assert [each.scale for each in whole_image(steps)[2:4]] == [(64, 48), (64, 48)]
    assert refused(steps) == []
    assert refused([*steps, rotate, nested]) == ["RandomRotate", "RandomRotFlip"]


def test_own_transforms_say_what_they_are() -> None:
    from mmseg.datasets.transforms import RandomCrop

    class Named(RandomCrop):
        pass

    class Turned(RandomCrop):
        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return results

    class Tinted(Turned):
        photometric = True

    assert kind_of(Named(8)) == "RandomCrop"
    assert kind_of(Turned(8)) == ""
    assert kind_of(Tinted(8)) == "photometric"
