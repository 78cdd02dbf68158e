"""How boxes of mmdet3d reach losses, and how unlike maps are aligned for them."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

import densekd  # noqa: F401  makes mmdet3d importable
from densekd.align.adapt import Adapt
from densekd.mmlab.samples import Context


def sample(boxes: object, labels: list[int]) -> BaseDataElement:
    made = BaseDataElement(metainfo={"img_path": "000008.png"})
    made.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor(labels))
    return made


BOXES = torch.tensor([[1.0, 2.0, 0.5, 4.0, 2.0, 1.5, 0.3, 9.0, 9.0], [5.0, -2.0, 0.5, 3.0, 1.0, 1.5, -0.3, 9.0, 9.0]])


def test_boxes_on_the_ground_without_those_of_no_class() -> None:
    from mmdet3d.structures import DepthInstance3DBoxes, LiDARInstance3DBoxes

    samples = [sample(LiDARInstance3DBoxes(BOXES, box_dim=9), [0, -1]), sample(DepthInstance3DBoxes(BOXES[:0, :7]), [])]
    first, second = Context(samples, None).gather(["boxes_bev"], (16, 16))["boxes_bev"]
    torch.testing.assert_close(first, torch.tensor([[1.0, 2.0, 4.0, 2.0, 0.3]]))
    assert second.shape == (0, 5)
    corners = samples[0].gt_instances_3d.bboxes_3d.corners[0, :, :2].unique(dim=0)  # as mmdet3d turns a box
    from densekd.sensors.geometry import nine_points

    ours = nine_points(first)[0, [0, 2, 6, 8]]
    assert torch.cdist(corners, ours).amin(1).max() < 1e-5


def test_boxes_of_a_camera_are_refused() -> None:
    from mmdet3d.structures import CameraInstance3DBoxes

    context = Context([sample(CameraInstance3DBoxes(BOXES[:, :7]), [0, 1])], None)
    with pytest.raises(ValueError, match=r"in 000008.png are CameraInstance3DBoxes.*box_type_3d='LiDAR'"):
        context.gather(["boxes_bev"], (16, 16))


def test_a_batch_without_3d_boxes_hands_none_in() -> None:
    assert Context([BaseDataElement()], None).gather(["boxes_bev"], (16, 16)) == {}
    assert Context([sample(BOXES, [0, 1])], None).gather(["boxes_bev"], (16,)) == {}


def test_channels_are_aligned_and_sizes_are_left() -> None:
    student, teacher = torch.zeros(1, 8, 16, 16), torch.zeros(1, 32, 24, 24)
    s, t = Adapt(student, teacher, None, match="channels")(student, teacher, None)
    assert (s.shape, t.shape) == ((1, 32, 16, 16), (1, 32, 24, 24))
    assert Adapt(student, teacher[:, :8], None, match="channels").project is None
    with pytest.raises(ValueError, match="cannot be aligned by adapt='none'"):
        Adapt(student, teacher, None, match="channels", how="none")
