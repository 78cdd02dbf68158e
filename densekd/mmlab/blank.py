"""A blank batch of several sensors (mmdet3d) for probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from densekd.sensors.batches import sees_images, sees_points, takes_points

FRONT = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Transform from a LiDAR's frame to that of a front camera."""


def blank(model: Any, size: tuple[int, int]) -> tuple[dict[str, Any], list[BaseDataElement]]:
    """Return a blank batch of one frame for a model of mmdet3d: points on a grid over its range, a black front image.

    A model of raw points gets 16,384 of them within 40 metres, enough for all that it samples.

    Args:
        model: has a `data_preprocessor` of mmdet3d.
        size: height and width of the image.
    """
    weight = next(model.parameters())
    height, width = size
    pinhole = np.array([[width / 2, 0, width / 2, 0], [0, width / 2, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
    calibration = {"cam2img": pinhole, "lidar2cam": FRONT, "lidar2img": pinhole @ FRONT}
    sample = BaseDataElement(metainfo={**shapes, **calibration, "scale_factor": (1.0, 1.0)})
    sample.gt_instances_3d = InstanceData()
    inputs: dict[str, Any] = {}
    if sees_images(model):
        inputs["imgs"] = torch.zeros(1, 3, height, width, device=weight.device, dtype=weight.dtype)
    if sees_points(model):
        encoder = getattr(model, "pts_voxel_encoder", None) or model.voxel_encoder
        start, end = np.array(model.data_preprocessor.voxel_layer.point_cloud_range).reshape(2, 3)
        shares = (np.indices((8, 8, 1)).reshape(3, -1).T + 0.5) / [8, 8, 1]
        points = np.zeros((len(shares), _features(encoder)))
        points[:, :3] = start + shares * (end - start)
        inputs["points"] = [weight.new_tensor(points)]
        inputs["voxels"] = model.data_preprocessor.voxelize(inputs["points"], [sample])
    elif takes_points(model):
        widths = [module.in_channels for module in model.backbone.modules() if isinstance(module, nn.Conv2d)]
        grid = np.indices((64, 64, 4)).reshape(3, -1).T / [64, 64, 4] * [80, 80, 4] - [40, 40, 2]
        inputs["points"] = [weight.new_tensor(np.pad(grid, ((0, 0), (0, widths[0] - 3))))]
    return inputs, [sample]


def _features(encoder: Any) -> int:
    """Numbers of a point, without those that mmdet3d's encoders add."""
    if hasattr(encoder, "num_features"):
        return encoder.num_features
    added = sum(3 * getattr(encoder, f"_with_{what}_center", False) for what in ("cluster", "voxel"))
    return encoder.in_channels - added - getattr(encoder, "_with_distance", False)
