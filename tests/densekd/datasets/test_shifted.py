"""The same image is always shifted in the same way, with its boxes, and labels are what was shifted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from densekd.datasets.shifted import Shifted
from densekd.mmlab.config import read_config

ALL: dict[str, Any] = dict(hue=120, gamma=1.5, contrast=0.6, blur=1.0, scale=0.5, vary=0.3)


def given(name: str = "a/b.jpg") -> dict[str, Any]:
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return {"img": image, "img_path": name, "instances": [{"bbox": [6.0, 4.0, 30.0, 20.0], "bbox_label": 2}]}


def test_it_is_of_the_image_and_the_seed_alone() -> None:
    one, again = Shifted(**ALL)(given()), Shifted(**ALL)(given("/elsewhere/b.jpg"))
    assert np.array_equal(one["img"], again["img"])
    assert one["instances"] == again["instances"]
    for other in (Shifted(**ALL)(given("c.jpg")), Shifted(**ALL, seed=1)(given())):
        assert other["img"].shape != one["img"].shape or not np.array_equal(other["img"], one["img"])
    assert given()["instances"][0]["bbox"] == [6.0, 4.0, 30.0, 20.0]


def test_boxes_and_sizes_are_those_of_the_shifted_image() -> None:
    found = Shifted(scale=0.5)(given())
    assert found["img"].shape[:2] == found["img_shape"] == found["ori_shape"] == (20, 30)
    assert (found["height"], found["width"]) == (20, 30)
    assert found["instances"] == [{"bbox": [3.0, 2.0, 15.0, 10.0], "bbox_label": 2}]
    kept = Shifted()(given())
    assert np.array_equal(kept["img"], given()["img"])
    assert kept["instances"] == given()["instances"]


def test_polygons_go_with_the_boxes_and_other_masks_do_not_stay_behind() -> None:
    results = given()
    results["instances"] = [{"bbox": [0, 0, 4, 4], "mask": each} for each in ([[0, 0, 4, 0, 4, 8]], {"counts": "x"})]
    one, other = Shifted(scale=0.5)(results)["instances"]
    assert one["mask"] == [[0.0, 0.0, 2.0, 0.0, 2.0, 4.0]]
    assert "mask" not in other


def test_other_images_are_named() -> None:
    for image in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8)):
        with pytest.raises(ValueError, match="an image must be uint8"):
            Shifted(gamma=2.0)({"img": image})


def test_each_option_does_what_it_says() -> None:
    grey = np.full((8, 8, 3), 64, np.uint8)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 200
    assert Shifted(gamma=2.0)({"img": grey})["img"][0, 0, 0] == round(255 * (64 / 255) ** 2)
    assert Shifted(contrast=0.5)({"img": grey})["img"][0, 0, 0] == round(255 * (0.5 + 0.5 * (64 / 255 - 0.5)))
    assert Shifted(hue=120)({"img": red})["img"][0, 0].tolist() == [0, 200, 0]
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    assert len(np.unique(Shifted(blur=1.0)({"img": edge})["img"])) > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(gamma=0.0), "gamma must be from 0.05"),
        (dict(hue=True), "hue must be a number, got True"),
        (dict(vary=1.5), "vary must be from 0 to 1"),
        (dict(scale=float("nan")), "scale must be from"),
        (dict(blur="much"), "blur must be a number"),
        (dict(seed=0.5), "seed must be a whole number"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Shifted(**options)


@pytest.mark.parametrize("data", ["digits", pytest.param("bccd", marks=pytest.mark.data)])
def test_the_metric_sees_the_shifted_boxes(data: str, request: pytest.FixtureRequest) -> None:
    if data == "bccd":
        request.getfixturevalue("data_root")
    target = read_config(f"det/mean_teacher/{data}")
    source = read_config(f"det/plain/faster_rcnn_r18_w16_{data}")
    with DefaultScope.overwrite_default_scope("mmdet"):
        shifted, plain = (DATASETS.build(each.test_dataloader.dataset)[0] for each in (target, source))
    there, here = (each["data_samples"] for each in (shifted, plain))
    assert len(there.instances) == len(here.instances) > 1
    factor = there.ori_shape[1] / here.ori_shape[1]
    for one, two in zip(there.instances, here.instances):
        np.testing.assert_allclose(one["bbox"], np.array(two["bbox"]) * factor, atol=0.6)
    assert not np.array_equal(shifted["inputs"].numpy(), plain["inputs"].numpy())
