from __future__ import annotations

import numpy as np
import pytest

from densekd.datasets.digits import draw


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_same_arguments_give_the_same_scene(split: str) -> None:
    for one, other in zip(draw(7, split, 64, seed=3), draw(7, split, 64, seed=3)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", [{"index": 1}, {"split": "val"}, {"seed": 1}])
def test_another_index_split_or_seed_gives_another_scene(change: dict) -> None:
    scene = {"index": 0, "split": "train", "size": 64, "seed": 0}
    assert not np.array_equal(draw(**scene).image, draw(**{**scene, **change}).image)


def test_each_box_is_the_tightest_around_the_mask_of_its_digit_and_every_stroke_is_in_one() -> None:
    for index in range(100):
        scene = draw(index, size=80)
        covered = np.zeros_like(scene.mask, bool)
        for (x1, y1, x2, y2), digit in zip(scene.boxes.astype(int), scene.digits):
            stroke = scene.mask[y1:y2, x1:x2] == 1 + digit
            assert stroke.any(0)[[0, -1]].all()
            assert stroke.any(1)[[0, -1]].all()
            assert set(np.unique(scene.mask[y1:y2, x1:x2])) <= {0, 1 + digit}
            covered[y1:y2, x1:x2] = True
        assert not scene.mask[~covered].any()
        assert 1 <= len(scene.boxes) == len(scene.digits) <= 4


def test_no_digit_image_is_in_two_splits() -> None:
    seen = {split: {s for i in range(200) for s in draw(i, split, 48).sources} for split in ("train", "val", "test")}
    assert all(seen.values())
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_the_stroke_differs_from_the_photograph_behind_it() -> None:
    contrast = []
    for index in range(50):
        scene = draw(index, size=96)
        stroke = scene.mask > 0
        contrast.append(abs(scene.image[stroke].mean() - scene.image[~stroke].mean()))
    assert np.mean(contrast) > 40


@pytest.mark.parametrize(
    ("arguments", "message"), [({"split": "training"}, "known: train, val, test"), ({"size": 500}, "400")]
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(0, **arguments)
