"""Unlabelled images for semi-supervised segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from densekd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class WithoutLabels(BaseTransform):
    """Replace `LoadAnnotations` in a pipeline of mmseg: every pixel of the image is ignored.

    The label file, if there is one, is not read.

    Args:
        ignore_index: label of ignored pixels.

    >>> results = WithoutLabels()({"img_shape": (2, 3)})
    >>> results["gt_seg_map"].tolist(), results["seg_fields"]
    ([[255, 255, 255], [255, 255, 255]], ['gt_seg_map'])
    """

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Make a label map of ignored pixels."""
        results["gt_seg_map"] = np.full(results["img_shape"][:2], self.ignore_index, np.uint8)
        results["seg_fields"] = [*(f for f in results.get("seg_fields", ()) if f != "gt_seg_map"), "gt_seg_map"]
        return results
