"""Attributes of objects: in digit scenes, in COCO's files, and through a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from densekd.datasets import CocoAttributes, DigitScenesDet, LoadAttributes, PackAttributes
from densekd.datasets.digit_scenes_det import ATTRIBUTES
from densekd.datasets.digits import INKS, draw

BOXES = [{"type": "LoadAnnotations", "with_bbox": True}, {"type": "densekd.LoadAttributes"}]
PACK = {"type": "densekd.PackAttributes"}


def build(**config: Any) -> Any:
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build({"type": "densekd.DigitScenesDet", "with_attributes": True, "size": 64, **config})


def test_a_named_ink_changes_the_colour_of_strokes_alone() -> None:
    seen = set()
    for index in range(20):
        plain, inked = draw(index, size=64), draw(index, size=64, inks=True)
        for name in ("mask", "boxes", "digits", "sources"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(inked, name))
        assert (plain.inks == -1).all()
        apart = (plain.image != inked.image).any(-1)
        near = cv2.dilate((plain.mask > 0).astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
        assert apart.any()
        assert not (apart & ~near).any()
        for stroke, ink in zip(inked.instances(), inked.inks):
            pixel = np.median(inked.image[stroke], 0)
            nearest = min(INKS, key=lambda name: np.abs(np.array(INKS[name]) - pixel).sum())
            assert nearest == list(INKS)[ink]
        seen |= set(inked.inks.tolist())
    assert seen == set(range(len(INKS)))


def test_digits_tell_their_color_and_size() -> None:
    dataset = build(count=30)
    sizes = set()
    for index in range(30):
        info, scene = dataset.get_data_info(index), draw(index, size=64, inks=True)
        assert info["attribute_names"] == ATTRIBUTES
        for each, ink, box in zip(info["instances"], scene.inks, scene.boxes):
            size = "large" if box[3] - box[1] >= 24 else "small"
            has = {name for name, said in zip(ATTRIBUTES, each["attributes"]) if said}
            assert has == {list(INKS)[ink], size}
            sizes.add(size)
    assert sizes == {"small", "large"}
    some = build(count=30, metainfo=dict(classes=["digit 3"], attributes=["small", "red"]))
    whole = [each for i in range(30) for each in dataset.get_data_info(i)["instances"] if each["bbox_label"] == 3]
    found = [each for i in range(30) for each in some.get_data_info(i)["instances"]]
    expected = [[each["attributes"][ATTRIBUTES.index(name)] for name in ("small", "red")] for each in whole]
    assert [each["attributes"] for each in found] == expected
    with pytest.raises(ValueError, match="no attribute 'rad'; did you mean 'red'"):
        build(metainfo=dict(attributes=["rad"]))
    with pytest.raises(ValueError, match="digits have attributes with_attributes=True"):
        DigitScenesDet(metainfo=dict(attributes=["red"]))


def test_attributes_stay_with_their_boxes() -> None:
    plain = build(count=12, pipeline=[*BOXES, PACK])
    crop = {"type": "RandomCrop", "crop_size": (40, 40), "allow_negative_crop": True}
    cropped = build(count=12, pipeline=[*BOXES, {"type": "RandomFlip", "prob": 1.0}, crop, PACK])
    fewer = 0
    np.random.seed(0)  # noqa: NPY002  mmcv draws from it
    for index in range(12):
        truth = plain[index]["data_samples"]
        assert truth.attribute_names == ATTRIBUTES
        assert truth.gt_instances.attributes.shape == (len(truth.gt_instances.labels), len(ATTRIBUTES))
        item = cropped[index]
        sample = item["data_samples"].gt_instances
        fewer += len(sample.labels) < len(truth.gt_instances.labels)
        image = item["inputs"].numpy()[::-1]
        for box, said in zip(sample.bboxes.tensor.numpy().astype(int), sample.attributes):
            left, top, right, bottom = box
            if right - left < 14 or bottom - top < 14:
                continue
            part = image[:, top:bottom, left:right].reshape(3, -1).T.astype(float)
            ink = INKS[ATTRIBUTES[int(said[: len(INKS)].argmax())]]
            assert np.abs(part - ink).sum(1).min() < 60
    assert fewer > 3


def test_what_a_pipeline_lacks_is_named() -> None:
    info = build(count=1).get_data_info(0)
    info["gt_bboxes"] = np.zeros((len(info["instances"]), 4))
    load = LoadAttributes()
    with pytest.raises(ValueError, match="image 0 comes without attribute_names: take a data set"):
        load({**info, "attribute_names": None})
    with pytest.raises(ValueError, match="object 0 has no attributes, its data set has 8"):
        load({**info, "instances": [{"bbox_label": 1}] * len(info["instances"])})
    with pytest.raises(ValueError, match="object 0 has 2 attributes, its data set has 8"):
        load({**info, "instances": [{"attributes": [1, 0]}] * len(info["instances"])})
    for wrong in (2, 0.5, float("nan")):
        with pytest.raises(ValueError, match=rf"is 1, 0 or -1 .not known., got .*{wrong}"):
            load({**info, "instances": [{"attributes": [wrong] * 8}] * len(info["instances"])})
    with pytest.raises(ValueError, match="list LoadAttributes right after LoadAnnotations"):
        load({**info, "gt_bboxes": np.zeros((0, 4))})
    with pytest.raises(ValueError, match=r"the pipeline has no densekd\.LoadAttributes"):
        PackAttributes()(info)
    with pytest.raises(ValueError, match="a transform of its pipeline leaves out boxes without their attributes"):
        PackAttributes()({**load(dict(info)), "gt_bboxes": np.zeros((1, 4))})


def annotations(folder: Path, **changed: Any) -> Path:
    """Two objects of one image, and one that mmdet leaves out, as it has no area."""
    rows = [
        {"bbox": [1, 1, 0, 9], "attributes": {"small": 1}},
        {"bbox": [4, 4, 20, 20], "attributes": {"red": 1, "blue": 0}},
        {"bbox": [30, 4, 20, 20], "attributes": {}},
    ]
    for number, row in enumerate(rows):
        row.update(id=number, image_id=5, category_id=1, area=row["bbox"][2] * row["bbox"][3], iscrowd=0)
    rows[1].update(changed)
    path = folder / "objects.json"
    image = {"id": 5, "file_name": "a.png", "height": 60, "width": 64}
    path.write_text(json.dumps({"images": [image], "annotations": rows, "categories": [{"id": 1, "name": "cup"}]}))
    return path


def coco(path: Path, attributes: Any = ("blue", "red", "small")) -> CocoAttributes:
    about = dict(classes=["cup"], **({"attributes": attributes} if attributes else {}))
    return CocoAttributes(ann_file=str(path), metainfo=about, data_prefix=dict(img=""), pipeline=[])


def test_cocos_files_may_tell_attributes(tmp_path: Path) -> None:
    info = coco(annotations(tmp_path)).get_data_info(0)
    assert info["attribute_names"] == ("blue", "red", "small")
    assert [each["attributes"] for each in info["instances"]] == [[0, 1, -1], [-1, -1, -1]]
    assert info["instances"][0]["bbox"] == [4, 4, 24, 24]


@pytest.mark.parametrize(
    ("changed", "names", "message"),
    [
        ({}, None, r"say which attributes are read, by metainfo=dict\(attributes"),
        ({}, ["red", "smal"], "no annotation says anything of the attribute 'smal'; did you mean 'small'"),
        ({"attributes": None}, ["red"], 'annotation 1 has no "attributes": give a dict'),
        ({"attributes": {"red": 3}}, ["red"], "says 3 of the attribute 'red'"),
    ],
)
def test_wrong_files_are_named(changed: Any, names: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        coco(annotations(tmp_path, **changed), names)
