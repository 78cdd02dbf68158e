"""Resize camera images together with their calibration."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from densekd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeCameras(BaseTransform):
    """Resize the image of one camera, or those of several, and their `cam2img` and `lidar2img` with them.

    Boxes and points stay as they are: they are in metres.

    Args:
        size: width and height.

    >>> camera = {"img": np.zeros((90, 160, 3), np.uint8), "cam2img": np.diag([100.0, 100.0, 1.0, 1.0])}
    >>> small = ResizeCameras((80, 30))(camera)
    >>> small["img"].shape, np.diag(small["cam2img"])[:2].round(2).tolist()
    ((30, 80, 3), [50.0, 33.33])
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = tuple(size)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize the loaded images."""
        images, several = results["img"], isinstance(results["img"], list)
        images = images if several else [images]
        width, height = self.size
        scales = [np.diag([width / image.shape[1], height / image.shape[0], 1, 1]) for image in images]
        resized = [cv2.resize(image, self.size, interpolation=cv2.INTER_AREA) for image in images]
        for key in ("cam2img", "lidar2img"):
            if key in results:
                matrices = results[key] if several else [results[key]]
                scaled = []
                for scale, matrix in zip(scales, matrices):
                    matrix = np.asarray(matrix)
                    scaled.append((scale[: len(matrix), : len(matrix)] @ matrix).astype(matrix.dtype))
                results[key] = scaled if several else scaled[0]
        results["img"] = resized if several else resized[0]
        results["img_shape"] = results["pad_shape"] = (height, width)
        return results
