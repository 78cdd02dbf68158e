from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from densekd.datasets.digits import draw

BOXES = {"type": "LoadAnnotations", "with_bbox": True}
PACK = {"type": "PackDetInputs", "meta_keys": ("img_id", "ori_shape", "img_shape", "scale_factor", "instances")}


def build(scope: str, **config: Any) -> Any:
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(config)


def test_the_segmentation_dataset_hands_mmseg_the_scene() -> None:
    dataset = build(
        "mmseg", type="densekd.DigitScenesSeg", split="val", count=4, size=64, pipeline=[{"type": "PackSegInputs"}]
    )
    scene, item = draw(2, "val", 64), dataset[2]
    assert len(dataset) == 4
    np.testing.assert_array_equal(item["inputs"].permute(1, 2, 0).numpy()[..., ::-1], scene.image)
    np.testing.assert_array_equal(item["data_samples"].gt_sem_seg.data[0].numpy(), scene.mask)
    assert len(dataset.metainfo["palette"]) == len(dataset.metainfo["classes"]) == 11


def test_the_truth_as_prediction_scores_100_in_mmseg() -> None:
    dataset = build(
        "mmseg", type="densekd.DigitScenesSeg", split="test", count=40, size=64, pipeline=[{"type": "PackSegInputs"}]
    )
    with DefaultScope.overwrite_default_scope("mmseg"):
        evaluator = Evaluator({"type": "IoUMetric", "iou_metrics": ["mIoU"]})
    evaluator.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item["data_samples"]
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())
        evaluator.process([sample])
    assert evaluator.evaluate(len(dataset))["mIoU"] == 100


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_cocos_metric_reads_the_truth_from_the_dataset_and_sees_a_shift(shift: float) -> None:
    dataset = build(
        "mmdet", type="densekd.DigitScenesDet", split="test", count=30, size=64, pipeline=[BOXES, PACK], test_mode=True
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        evaluator = Evaluator({"type": "CocoMetric", "metric": "bbox"})
    evaluator.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item["data_samples"]
        truth = sample.gt_instances
        boxes = torch.as_tensor(truth.bboxes.numpy() if hasattr(truth.bboxes, "numpy") else truth.bboxes.tensor)
        sample.pred_instances = InstanceData(
            bboxes=boxes + shift, labels=truth.labels, scores=torch.ones(len(truth.labels))
        )
        evaluator.process([sample])
    score = evaluator.evaluate(len(dataset))["coco/bbox_mAP"]
    assert score == 1 if shift == 0 else 0 < score < 0.8


def test_the_detection_dataset_hands_mmdet_boxes_and_labels() -> None:
    dataset = build(
        "mmdet", type="densekd.DigitScenesDet", count=3, size=64, pipeline=[BOXES, {"type": "PackDetInputs"}]
    )
    scene, item = draw(1, "train", 64), dataset[1]
    truth = item["data_samples"].gt_instances
    np.testing.assert_allclose(truth.bboxes.tensor.numpy(), scene.boxes)
    assert truth.labels.tolist() == dataset.get_cat_ids(1) == scene.digits.tolist()


MASKS = {**BOXES, "with_mask": True}


def test_the_mask_of_a_digit_is_its_stroke() -> None:
    """Masks part what the label map shows, each has the class of its digit there, and its box is the tightest."""
    dataset = build("mmdet", type="densekd.DigitScenesDet", count=20, size=64, with_masks=True, pipeline=[MASKS, PACK])
    for index, item in enumerate(dataset):
        scene, truth = draw(index, "train", 64), item["data_samples"].gt_instances
        masks = truth.masks.masks.astype(bool)
        assert masks.shape == (len(scene.digits), 64, 64)
        np.testing.assert_array_equal(masks, scene.instances())
        np.testing.assert_array_equal(masks.sum(0), scene.mask > 0)
        for mask, digit, box in zip(masks, scene.digits, scene.boxes):
            assert set(scene.mask[mask]) == {1 + digit}
            y, x = np.nonzero(mask)
            assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == box.tolist()


def test_masks_of_the_truth_score_100_in_cocos_metric() -> None:
    dataset = build(
        "mmdet",
        type="densekd.DigitScenesDet",
        split="test",
        count=10,
        size=64,
        with_masks=True,
        pipeline=[MASKS, PACK],
        test_mode=True,
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        evaluator = Evaluator({"type": "CocoMetric", "metric": "segm"})
    evaluator.dataset_meta = dataset.metainfo
    for item in dataset:
        truth = item["data_samples"].gt_instances
        item["data_samples"].pred_instances = InstanceData(
            bboxes=truth.bboxes.tensor,
            labels=truth.labels,
            scores=torch.ones(len(truth)),
            masks=truth.masks.to_tensor(torch.bool, "cpu"),
        )
        evaluator.process([item["data_samples"]])
    assert evaluator.evaluate(len(dataset))["coco/segm_mAP"] == 1


def test_batches_of_a_seed_are_the_same_twice() -> None:
    config = {
        "type": "densekd.DigitScenesSeg",
        "count": 3,
        "size": 48,
        "seed": 5,
        "pipeline": [{"type": "PackSegInputs"}],
    }
    one, two = (pseudo_collate(list(build("mmseg", **config))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one["inputs"], two["inputs"]))


def test_no_scene_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        build("mmseg", type="densekd.DigitScenesSeg", count=0)
