"""Truth as mmdet lays it out: label maps, boxes and masks of any kind, and samples without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from densekd import Distiller
from densekd.mmlab.samples import Context, check_labels

from .conftest import det_batch


def sample(**instances: Any) -> DetDataSample:
    found = DetDataSample(metainfo={"img_path": "a.png"})
    if instances:
        found.gt_instances = InstanceData(**instances)
    return found


def masks(kind: str) -> Any:
    if kind == "polygons":
        return PolygonMasks([[np.array([0.0, 0.0, 4.0, 0.0, 4.0, 2.0, 0.0, 2.0])]], 8, 16)
    whole = np.zeros((1, 8, 16), np.uint8)
    whole[0, :2, :4] = 1
    return BitmapMasks(whole, 8, 16) if kind == "bitmaps" else torch.from_numpy(whole).bool()


@pytest.mark.parametrize("kind", ["bitmaps", "polygons", "tensor"])
def test_masks_of_every_kind(kind: str) -> None:
    one = sample(masks=masks(kind), labels=torch.tensor([1]))  # without boxes, as a MaskFormer takes them
    found = Context([one, sample(masks=masks(kind)[:0], labels=torch.zeros(0).long()), sample()], (8, 16)).masks((4, 8))
    assert found is not None
    expected = torch.zeros(1, 4, 8)
    expected[:, :1, :2] = 1
    assert torch.equal(found[0], expected)
    assert [each.shape for each in found[1:]] == [(0, 4, 8)] * 2


@pytest.mark.parametrize("kind", [HorizontalBoxes, lambda boxes: boxes])
def test_x_and_y_of_boxes_have_a_scale_of_their_own(kind: Any) -> None:
    boxes = kind(torch.tensor([[2.0, 4.0, 6.0, 16.0]]))
    context = Context([sample(bboxes=boxes), sample(bboxes=kind(torch.zeros(0, 4))), sample()], (32, 64))
    found = context.boxes((8, 32))  # a quarter as high, half as wide
    assert found is not None
    assert found[0].tolist() == [[1.0, 1.0, 3.0, 4.0]]
    assert [each.shape for each in found[1:]] == [(0, 4)] * 2
    weight = context.inside((8, 32))
    expected = torch.zeros(3, 8, 32, dtype=torch.bool)
    expected[0, 1:4, 1:3] = True
    assert torch.equal(weight, expected)


def test_boxes_that_are_turned_are_refused() -> None:
    with pytest.raises(ValueError, match=r"corners x1, y1, x2, y2 .* has \(2, 5\)"):
        Context([sample(bboxes=torch.zeros(2, 5))], (8, 8)).boxes((4, 4))


def test_without_instances_there_are_no_boxes() -> None:
    assert Context([sample(), sample()], (8, 8)).boxes((4, 4)) is None
    assert Context([sample(labels=torch.tensor([1]))], (8, 8)).masks((4, 4)) is None


def mapped(field: str, labels: Tensor) -> DetDataSample:
    found = sample()
    found.gt_sem_seg = PixelData(**{field: labels})
    return found


@pytest.mark.parametrize("field", ["data", "sem_seg"])
def test_label_maps_of_both_libraries(field: str) -> None:
    labels = torch.arange(16).view(1, 4, 4)
    context = Context([mapped(field, labels), sample()], (8, 8), ignore_index=99)
    assert torch.equal(context.label_map((2, 2)), torch.cat([labels, torch.full_like(labels, 99)]))
    assert context.labels((2, 2)).tolist() == [[[0, 2], [8, 10]], [[99, 99], [99, 99]]]
    assert context.labelled((2, 2))[0].all()
    assert not context.labelled((2, 2))[1].any()


def test_label_maps_of_unlike_size_are_named() -> None:
    pair = [mapped("sem_seg", torch.zeros(1, 4, 4).long()), mapped("sem_seg", torch.zeros(1, 4, 6).long())]
    with pytest.raises(ValueError, match=r"4 x 4 and 4 x 6 pixels.*pad_seg=True"):
        Context(pair, (8, 8)).labels((2, 2))


def test_semantic_classes_beside_boxes_are_no_classes_of_the_boxes() -> None:
    model: Any = nn.Module()
    model.bbox_head = nn.Module()
    model.bbox_head.num_classes = 3
    one = mapped("sem_seg", torch.tensor([[[0, 132, 255]]]))  # of another size than the image, too
    one.gt_instances = InstanceData(bboxes=torch.zeros(1, 4), labels=torch.tensor([2]))
    check_labels(model, [one, sample()], (8, 8))
    one.gt_instances.labels[0] = 3
    with pytest.raises(ValueError, match=r"labels \[3\] in a.png .* classes 0 to 2$"):
        check_labels(model, [one], (8, 8))
    model.bbox_head.rpn_cls = nn.Conv2d(1, 1, 1)  # of proposals, which are all of one class
    check_labels(model, [one], (8, 8))


def test_a_detector_with_a_label_map_and_without_instances_is_taught(det: Config) -> None:
    entries = [{"loss": "mse", "student": "neck", "where": "boxes"}, {"loss": "pkd", "student": "neck"}]
    model = Distiller(student=det, teacher="ema", distills=entries)
    found = det_batch(model)
    for each in found["data_samples"]:
        each.gt_sem_seg = PixelData(sem_seg=torch.randint(0, 133, (1, 96, 96)))
    crowd = found["data_samples"][1].gt_instances
    found["data_samples"][1].ignored_instances = crowd
    found["data_samples"][1].gt_instances = InstanceData(bboxes=crowd.bboxes[:0], labels=crowd.labels[:0])
    losses = model(**found, mode="loss")
    assert all(losses[f"distill.loss_{name}"].requires_grad for name in ("mse", "pkd"))
