"""A bird's-eye-view detector for LiDAR, cameras or both, built from mmdet3d's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet3d.models.detectors import CenterPoint
from mmdet3d.registry import MODELS as PARTS
from torch import Tensor

from densekd.registry import MODELS
from densekd.sensors.batches import sensor


@MODELS.register_module()
class BEVDetector(CenterPoint):
    """mmdet3d's CenterPoint, with a bird's-eye-view map from LiDAR, cameras or both.

    - LiDAR: `pts_voxel_encoder`, `pts_middle_encoder`; without `view_transform` this is CenterPoint itself.
    - Camera: `img_backbone`, `img_neck`, `view_transform`; without `pts_middle_encoder` points are not used.
    - Fusion: both; their maps are concatenated and go through a 3x3 convolution `fusion_layer`.

    `pts_backbone`, `pts_neck` and `pts_bbox_head` follow on the map, so that students and teachers with different
    sensors have the same modules from there on.

    Args:
        view_transform: config of the module that maps the first level of the camera's features to the ground, such as
            `LiftSplat`.
        fusion_channels: of the fused map.
        others: as CenterPoint's.

    Raises:
        ValueError: neither sensor, or both without `fusion_channels`.
    """

    def __init__(
        self, view_transform: Mapping[str, Any] | None = None, fusion_channels: int | None = None, **others: Any
    ) -> None:
        super().__init__(**others)
        lidar, camera = others.get("pts_middle_encoder"), view_transform
        if not lidar and not camera:
            raise ValueError("a BEVDetector needs pts_middle_encoder (LiDAR), view_transform (camera) or both")
        if camera:
            self.view_transform = PARTS.build(camera)
        if lidar and camera:
            if fusion_channels is None:
                raise ValueError("a BEVDetector with LiDAR and camera needs fusion_channels")
            widths = lidar["in_channels"] + camera["out_channels"]
            norm = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
            self.fusion_layer = ConvModule(widths, fusion_channels, 3, padding=1, norm_cfg=norm)

    def extract_feat(
        self, batch_inputs_dict: Mapping[str, Any], batch_input_metas: Sequence[Mapping[str, Any]]
    ) -> tuple[None, Sequence[Tensor]]:
        """Compute the bird's-eye-view map, and run the backbone and the neck on it.

        Raises:
            ValueError: the batch lacks a sensor.
        """
        maps = []
        if hasattr(self, "pts_middle_encoder"):
            voxels = sensor(batch_inputs_dict, "voxels", "points", type(self).__name__)
            features = self.pts_voxel_encoder(voxels["voxels"], voxels["num_points"], voxels["coors"])
            maps.append(self.pts_middle_encoder(features, voxels["coors"], len(batch_inputs_dict["points"])))
        if hasattr(self, "view_transform"):
            images = sensor(batch_inputs_dict, "imgs", "img", type(self).__name__)
            size, features = images.shape[-2:], self.img_backbone(images.flatten(0, -4))
            if self.with_img_neck:
                features = self.img_neck(features)
            maps.append(self.view_transform(features[0], batch_input_metas, size))
        x = self.fusion_layer(torch.cat(maps, 1)) if len(maps) == 2 else maps[0]
        return None, self.pts_neck(self.pts_backbone(x))
