from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from densekd.datasets import CamVid

BASES = Path(__file__).parents[3] / "configs" / "_base_" / "datasets"


def build(name: str, split: str) -> object:
    config = Config.fromfile(BASES / f"{name}.py")
    with DefaultScope.overwrite_default_scope("mmseg" if name.startswith("camvid") else "mmdet"):
        return DATASETS.build(config[f"{split}_dataloader"].dataset)


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_camvid_has_its_frames_and_void_is_ignored(data_root: Path, split: str, count: int) -> None:
    dataset = build("camvid", split)
    assert len(dataset) == count
    labels = dataset[0]["data_samples"].gt_sem_seg.data
    assert set(np.unique(labels)) <= {*range(11), 255}
    assert (labels == 255).any()


@pytest.mark.data
def test_a_quarter_of_camvid_has_labels_and_the_rest_of_its_drives_are_images_alone(data_root: Path) -> None:
    labelled, images = build("camvid_quarter", "train").datasets
    names = [[Path(part.get_data_info(n)["img_path"]).name for n in range(len(part))] for part in (labelled, images)]
    whole = build("camvid_held_out", "train")
    assert (len(labelled), len(images)) == (74, 221)
    assert sorted(names[0] + names[1]) == sorted(Path(whole.get_data_info(n)["img_path"]).name for n in range(295))
    assert {*np.unique(labelled[0]["data_samples"].gt_sem_seg.data)} > {0, 1}
    assert (images[0]["data_samples"].gt_sem_seg.data == 255).all()
    with pytest.raises(ValueError, match="rest=True needs count"):
        CamVid(rest=True, lazy_init=True)


@pytest.mark.data
def test_camvids_classes_have_the_shares_that_were_published(data_root: Path) -> None:
    dataset = build("camvid", "val")
    labels = np.concatenate([item["data_samples"].gt_sem_seg.data.numpy().ravel() for item in dataset])
    share = 100 * np.bincount(labels, minlength=256) / labels.size
    names = dataset.metainfo["classes"]
    for name, expected in {"sky": 9.18, "road": 28.95, "tree": 16.34, "car": 1.75, "bicyclist": 2.22}.items():
        assert share[names.index(name)] == pytest.approx(expected, abs=0.01)
    assert share[255] == pytest.approx(1.7, abs=0.01)


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "images", "boxes"), [("train", 205, 2382 + 214 + 209), ("val", 87, 968 + 87 + 83), ("test", 72, 945)]
)
def test_bccd_has_its_boxes_but_those_without_area(data_root: Path, split: str, images: int, boxes: int) -> None:
    dataset = build("bccd", split)
    kept = np.array([i["bbox"] for n in range(len(dataset)) for i in dataset.get_data_info(n)["instances"]])
    assert len(dataset) == images
    assert (kept[:, 2:] > kept[:, :2]).all()
    degenerate = {"train": 1, "val": 1, "test": 0}[split]
    assert len(kept) == boxes - degenerate


@pytest.mark.data
def test_bccds_boxes_are_those_of_the_annotation_file_from_zero(data_root: Path) -> None:
    info = build("bccd", "train").get_data_info(0)
    root = ElementTree.parse(data_root / "BCCD/BCCD/Annotations" / f"{info['img_id']}.xml").getroot()
    first = root.find("object/bndbox")
    expected = [int(first.find(key).text) - 1 for key in ("xmin", "ymin", "xmax", "ymax")]
    assert info["instances"][0]["bbox"] == expected


@pytest.mark.parametrize("name", ["camvid", "bccd"])
def test_a_missing_folder_says_what_kd_data_root_should_name(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KD_DATA_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="KD_DATA_ROOT"):
        build(name, "train")
