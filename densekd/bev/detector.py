"""A bird's-eye-view detector for LiDAR, cameras or both, built from mmdet3d's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet3d.models.detectors import CenterPoint
from mmdet3d.registry import MODELS as PARTS
from torch import Tensor

from densekd.bev.fusion import HierarchicalFusion, ViewAttention
from densekd.registry import MODELS
from densekd.sensors.batches import sensor


@MODELS.register_module()
class BEVDetector(CenterPoint):
    """mmdet3d's CenterPoint, with a bird's-eye-view map from LiDAR, cameras or both.

    - LiDAR: `pts_voxel_encoder`, `pts_middle_encoder`; without `view_transform` this is CenterPoint itself.
    - Camera: `img_backbone`, `img_neck`, `view_transform`; without `pts_middle_encoder` points are not used.
    - Fusion: both; their maps are concatenated and go through a 3x3 convolution `fusion_layer`.
    - With `attention` the `fusion_layer` is a `ViewAttention`: the LiDAR, at each of `ages`, and each camera are views.

    `pts_backbone`, `pts_neck` and `pts_bbox_head` follow on the map, so that students and teachers with different
    sensors have the same modules from there on.

    Args:
        view_transform: config of the module that maps the first level of the camera's features to the ground, such as
            `LiftSplat`.
        fusion_channels: of the fused map.
        attention: fuse by attention over views.
        ages: of the LiDAR's points in seconds, a view for each: the last number of a point is its age, and it is in
            the view whose age is nearest. All points at once if not given.
        semantics: options of a `HierarchicalFusion` of the levels of `pts_backbone`, `dict(table=..., tau=...)`: what
            may be said of objects goes into the map. None if not given.
        others: as CenterPoint's.

    Raises:
        ValueError: neither sensor, both or `attention` without `fusion_channels`, `ages` without `attention` or LiDAR.
        FileNotFoundError: there is no table of texts.
    """

    def __init__(
        self,
        view_transform: Mapping[str, Any] | None = None,
        fusion_channels: int | None = None,
        attention: bool = False,
        ages: Sequence[float] = (),
        semantics: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        lidar, camera = others.get("pts_middle_encoder"), view_transform
        if not lidar and not camera:
            raise ValueError("a BEVDetector needs pts_middle_encoder (LiDAR), view_transform (camera) or both")
        if camera:
            self.view_transform = PARTS.build(camera)
        if ages and not (attention and lidar):
            raise ValueError("ages of points are views of a LiDAR: a BEVDetector with them needs attention=True")
        self.attention, self.ages = attention, tuple(ages)
        if (lidar and camera) or attention:
            if fusion_channels is None:
                raise ValueError("a BEVDetector with LiDAR and camera, or attention, needs fusion_channels")
            widths = [lidar["in_channels"]] if lidar else []
            widths += [camera["out_channels"]] if camera else []
            norm = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
            self.fusion_layer = (
                ViewAttention(widths, fusion_channels)
                if attention
                else ConvModule(sum(widths), fusion_channels, 3, padding=1, norm_cfg=norm)
            )
        if semantics:
            self.semantics = HierarchicalFusion(others["pts_backbone"]["out_channels"], **semantics)

    def extract_feat(
        self, batch_inputs_dict: Mapping[str, Any], batch_input_metas: Sequence[Mapping[str, Any]]
    ) -> tuple[None, Sequence[Tensor]]:
        """Compute the bird's-eye-view map, and run the backbone and the neck on it.

        Raises:
            ValueError: the batch lacks a sensor.
        """
        views = []
        if hasattr(self, "pts_middle_encoder"):
            views.append(self._of_points(batch_inputs_dict))
        if hasattr(self, "view_transform"):
            views.append(self._of_images(batch_inputs_dict, batch_input_metas))
        if self.attention:
            x = self.fusion_layer(views)
        else:
            maps = [view[:, 0] for view in views]
            x = self.fusion_layer(torch.cat(maps, 1)) if len(maps) == 2 else maps[0]
        levels = self.pts_backbone(x)
        return None, self.pts_neck(self.semantics(levels) if hasattr(self, "semantics") else levels)

    def _of_points(self, inputs: Mapping[str, Any]) -> Tensor:
        """Maps of the LiDAR, one for each age `(B, K, C, h, w)`."""
        name = type(self).__name__
        if self.ages:
            clouds = sensor(inputs, "points", "points", name)
            ages = clouds[0].new_tensor(self.ages)
            nearest = [(cloud[:, -1:] - ages).abs().argmin(1) for cloud in clouds]  # no point is in none of the views
            each = [[cloud[of == i] for cloud, of in zip(clouds, nearest)] for i in range(len(ages))]
            voxelised = [self.data_preprocessor.voxelize(of_age, []) for of_age in each]
        else:
            voxelised = [sensor(inputs, "voxels", "points", name)]
        maps = []
        for voxels in voxelised:
            features = self.pts_voxel_encoder(voxels["voxels"], voxels["num_points"], voxels["coors"])
            maps.append(self.pts_middle_encoder(features, voxels["coors"], len(inputs["points"])))
        return torch.stack(maps, 1)

    def _of_images(self, inputs: Mapping[str, Any], metas: Sequence[Mapping[str, Any]]) -> Tensor:
        """Maps of the cameras: of all at once `(B, 1, C, h, w)`, or with attention one for each."""
        images = sensor(inputs, "imgs", "img", type(self).__name__)
        size, features = images.shape[-2:], self.img_backbone(images.flatten(0, -4))
        if self.with_img_neck:
            features = self.img_neck(features)
        count = len(features[0]) // len(metas)
        if not self.attention or count == 1:
            return self.view_transform(features[0], metas, size).unsqueeze(1)
        single = [
            {**meta, **{key: meta[key][i] for key in ("cam2img", "lidar2cam") if key in meta}}
            for meta in metas
            for i in range(count)
        ]
        return self.view_transform(features[0], single, size).unflatten(0, (len(metas), count))
