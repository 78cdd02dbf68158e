"""Lift-splat: from camera features to a bird's-eye-view map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from densekd.registry import MODELS
from densekd.sensors.geometry import Extent


@MODELS.register_module()
class LiftSplat(BaseModule):
    r"""Lift each pixel's feature to a distribution over depths, and sum the features in each cell of the ground.

    With a distribution $\alpha_{ud}$ over depths d and a feature $c_u$ for each pixel u, both by a 1x1 convolution,

    $$ m(i) = \sum_{u, d \,:\, P_{ud} \in i} \alpha_{ud} \, c_u, $$

    $P_{ud}$ the place of the pixel at that depth in the LiDAR's frame. Depths are learned from the detector's own
    losses; points outside of the range are dropped.

    Args:
        in_channels: of the features of the cameras.
        out_channels: of the map.
        point_cloud_range: what the map shows, x0 y0 z0 x1 y1 z1 in metres.
        size: rows (y) and columns (x) of the map.
        depth: nearest depth, farthest and step, in metres along the axis of the camera.

    Paper: Philion and Fidler, "Lift, Splat, Shoot", ECCV 2020.

    >>> lift = LiftSplat(8, 4, point_cloud_range=[0, -8, -3, 16, 8, 2], size=(32, 32), depth=(1, 17, 2))
    >>> front = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    >>> meta = {"cam2img": np.array([[32, 0, 32, 0], [0, 32, 16, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "lidar2cam": front}
    >>> lift(torch.rand(1, 8, 8, 16), [meta], image_size=(32, 64)).shape
    torch.Size([1, 4, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        point_cloud_range: Sequence[float],
        size: Sequence[int],
        depth: Sequence[float],
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.point_cloud_range = list(point_cloud_range)
        self.extent = Extent.of(self.point_cloud_range)
        self.size, self.out_channels = tuple(size), out_channels
        self.register_buffer("depths", torch.arange(*map(float, depth)), persistent=False)
        self.depth_and_context = nn.Conv2d(in_channels, len(self.depths) + out_channels, 1)

    def forward(self, features: Tensor, metas: Sequence[Mapping[str, Any]], image_size: Sequence[int]) -> Tensor:
        """Lift the features of all cameras.

        Args:
            features: `(B N, C, h, w)`, N cameras a sample.
            metas: of each sample `cam2img` and `lidar2cam`, one matrix or a list of N.
            image_size: height and width of the images.

        Returns:
            `(B, out_channels, *size)`, rows along y.

        Raises:
            KeyError: the metadata lack the calibration.
        """
        depth, context = self.depth_and_context(features).split([len(self.depths), self.out_channels], 1)
        places = self._places(features, metas, image_size)
        height, width = self.size
        cells = (self.extent.shares(places[..., :2]) * places.new_tensor([width, height])).floor().long()
        z0, z1 = self.point_cloud_range[2], self.point_cloud_range[5]
        inside = self.extent.contains(places[..., :2]) & (places[..., 2] >= z0) & (places[..., 2] < z1)
        camera, _, row, column = kept = inside.nonzero(as_tuple=True)
        sample = camera // (len(places) // len(metas))
        x, y = cells[inside].unbind(-1)
        index = (sample * height + y) * width + x
        # only what falls onto the map is multiplied out, a row of channels at a time
        rows = context.permute(0, 2, 3, 1).contiguous()[camera, row, column] * depth.softmax(1)[kept].unsqueeze(1)
        maps = rows.new_zeros(len(metas) * height * width, self.out_channels).index_add(0, index, rows)
        return maps.unflatten(0, (len(metas), height, width)).permute(0, 3, 1, 2).contiguous()

    def _places(self, features: Tensor, metas: Sequence[Mapping[str, Any]], image_size: Sequence[int]) -> Tensor:
        """Where each pixel lies at each depth `(B N, D, h, w, 3)`, in the LiDAR's frame."""
        for key in ("cam2img", "lidar2cam"):
            if any(key not in meta for meta in metas):
                raise KeyError(
                    f"LiftSplat needs {key!r} of each camera: list it among the meta_keys of Pack3DDetInputs"
                )
        h, w = features.shape[-2:]
        v, u = torch.meshgrid(
            (torch.arange(h, device=features.device) + 0.5) * (image_size[0] / h),
            (torch.arange(w, device=features.device) + 0.5) * (image_size[1] / w),
            indexing="ij",
        )
        pixels = torch.stack([u, v, torch.ones_like(u)], -1)
        intrinsic, extrinsic = (
            features.new_tensor(np.concatenate([_matrices(meta[key]) for meta in metas]))
            for key in ("cam2img", "lidar2cam")
        )
        to_lidar = torch.linalg.inv(extrinsic)
        # of KITTI's matrices the fourth column counts, too: pixel = K place + shift
        back = to_lidar[:, :3, :3] @ torch.linalg.inv(intrinsic[:, :3, :3])
        rays = torch.einsum("nij,hwj->nhwi", back, pixels)
        start = to_lidar[:, :3, 3] - torch.einsum("nij,nj->ni", back, intrinsic[:, :3, 3])
        return self.depths.view(1, -1, 1, 1, 1) * rays[:, None] + start[:, None, None, None]


def _matrices(given: Any) -> np.ndarray:
    """One matrix, or a list of them, as `(N, 4, 4)`."""
    found = np.asarray(given, dtype=np.float64)
    found = found[None] if found.ndim == 2 else found
    whole = np.tile(np.eye(4), (len(found), 1, 1))
    whole[:, : found.shape[1], : found.shape[2]] = found
    return whole
