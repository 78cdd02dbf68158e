"""The digit scenes as an mmdet dataset."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset
from pycocotools import mask as coco

from densekd.datasets.digit_scenes import NAMES, PALETTE, Scenes
from densekd.datasets.digits import Scene
from densekd.registry import DATASETS


@DATASETS.register_module()
class DigitScenesDet(Scenes, BaseDetDataset):
    """Digit scenes for mmdet: ten classes, boxes as `instances`, see `densekd.datasets.digits.draw`.

    Args:
        with_masks: give each instance its mask as well, the stroke of the digit, run-length encoded as COCO's are.
        **kwargs: see `densekd.datasets.digit_scenes.Scenes`.

    >>> dataset = DigitScenesDet(split="val", count=3, size=64, with_masks=True)
    >>> sorted(dataset[0]["instances"][0])
    ['bbox', 'bbox_label', 'ignore_flag', 'mask']
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": NAMES, "palette": [tuple(colour) for colour in PALETTE]}

    def __init__(self, *args: Any, with_masks: bool = False, **kwargs: Any) -> None:
        self.with_masks = with_masks
        super().__init__(*args, **kwargs)

    def _truth(self, scene: Scene) -> dict[str, Any]:
        pairs = zip(scene.boxes.tolist(), scene.digits.tolist())
        instances = [{"bbox": box, "bbox_label": digit, "ignore_flag": 0} for box, digit in pairs]
        for instance, mask in zip(instances, scene.instances() if self.with_masks else ()):
            instance["mask"] = _run_lengths(mask)
        return {"instances": instances}

    def get_cat_ids(self, idx: int) -> list[int]:
        """List the digits in a scene."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}
