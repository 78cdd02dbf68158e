from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from densekd.context import classes_of
from densekd.mmlab.building import build_model
from densekd.mmlab.samples import Context, check_labels

from .conftest import det_batch, seg_batch


@pytest.fixture
def instances() -> Context:
    sample, empty = DetDataSample(), DetDataSample()
    mask = np.zeros((1, 6, 8), np.uint8)
    mask[:, :4, :4] = 1
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 4.0, 4.0]]), masks=BitmapMasks(mask, 6, 8))
    empty.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), masks=BitmapMasks(np.zeros((0, 6, 8), np.uint8), 6, 8))
    return Context([sample, empty], (8, 8))  # the batch is padded by two rows


def test_labels_are_taken_by_nearest_and_ignored_ones_stay(seg: Config) -> None:
    model, _ = build_model(seg)
    batch = seg_batch(model)
    context = Context(batch["data_samples"], (64, 64))
    labels = context.gather(["labels"], (16, 16))["labels"]
    full = torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]])
    assert torch.equal(labels, full[:, ::4, ::4])
    assert torch.equal(context.gather(["weight"], (16, 16), "labelled")["weight"], labels != 255)


def test_the_head_says_which_label_does_not_count(seg: Config) -> None:
    seg.model.decode_head.ignore_index = 200
    model, _ = build_model(seg)
    assert classes_of(model) == (11, 200)
    context = Context(seg_batch(model)["data_samples"], (64, 64), ignore_index=200)
    assert context.gather(["weight"], (16, 16), "labelled")["weight"].all()  # 255 is a label like any other here
    seg.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.3)
    assert classes_of(build_model(seg)[0]) == (2, 200)


def test_boxes_and_masks_come_at_the_size_of_the_tap(instances: Context) -> None:
    found = instances.gather(["boxes", "masks"], (4, 4))
    assert torch.equal(found["boxes"][0], torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    assert found["boxes"][1].shape == (0, 4)
    expected = torch.zeros(1, 4, 4)
    expected[:, :2, :2] = 1
    assert torch.equal(found["masks"][0], expected)
    assert found["masks"][1].shape == (0, 4, 4)


def test_boxes_of_whole_numbers_are_not_scaled_to_zero() -> None:
    sample = DetDataSample(gt_instances=InstanceData(bboxes=torch.tensor([[0, 0, 4, 6]])))
    found = Context([sample], (8, 8)).gather(["boxes"], (4, 4))["boxes"]
    assert found[0].tolist() == [[0.0, 0.0, 2.0, 3.0]]


def test_inside_of_boxes(instances: Context) -> None:
    weight = instances.gather(["weight"], (4, 4), "boxes")["weight"]
    assert weight[0].sum() == 4
    assert weight[0, :2, :2].all()
    assert not weight[1].any()


def test_what_the_batch_lacks_is_not_handed_in(instances: Context) -> None:
    assert "labels" not in instances.gather(["labels", "weight"], (4, 4))
    assert instances.gather(["boxes"], (4,)) == {}
    with pytest.raises(ValueError, match="needs gt_sem_seg"):
        instances.gather(["weight"], (4, 4), "labelled")
    with pytest.raises(ValueError, match="needs a tap that yields maps"):
        instances.gather(["weight"], (4,), "boxes")
    with pytest.raises(ValueError, match="needs gt_instances"):
        Context([DetDataSample()], (8, 8)).gather(["weight"], (4, 4), "boxes")


def test_progress_and_epoch_are_those_of_the_run(instances: Context) -> None:
    hub = MessageHub.get_instance("test_progress")
    assert instances.gather(["progress", "epoch"], (4, 4)) == {}
    hub.update_info_dict({"iter": 5, "max_iters": 20, "epoch": 2})
    assert instances.gather(["progress", "epoch"], (4, 4)) == {"progress": 0.25, "epoch": 2}
    MessageHub._instance_dict.pop("test_progress")


def test_labels_out_of_range(seg: Config, det: Config) -> None:
    model, _ = build_model(seg)
    samples = seg_batch(model)["data_samples"]
    check_labels(model, samples)
    samples[1].gt_sem_seg.data[0, 20, 20] = 11
    samples[1].set_metainfo({"seg_map_path": "scene.png"})
    with pytest.raises(ValueError, match=r"labels \[11\] in scene.png are out of range.* 0 to 10 and 255 to ignore"):
        check_labels(model, samples)
    model, _ = build_model(det)
    samples = det_batch(model)["data_samples"]
    check_labels(model, samples)
    samples[0].gt_instances.labels[0] = -1
    with pytest.raises(ValueError, match=r"labels \[-1\].* classes 0 to 9$"):
        check_labels(model, samples)


def test_the_label_map_keeps_its_size(seg: Config) -> None:
    model, _ = build_model(seg)
    batch = seg_batch(model)
    context = Context(batch["data_samples"], (64, 64))
    found = context.gather(["label_map"], (16, 16))["label_map"]
    assert torch.equal(found, torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]]))
