"""The digit scenes as an mmdet dataset."""

from __future__ import annotations

from typing import Any, ClassVar

from mmdet.datasets import BaseDetDataset

from densekd.datasets.digit_scenes import NAMES, PALETTE, Scenes
from densekd.datasets.digits import Scene
from densekd.registry import DATASETS


@DATASETS.register_module()
class DigitScenesDet(Scenes, BaseDetDataset):
    """Digit scenes for mmdet: ten classes, boxes as `instances`, see `densekd.datasets.digits.draw`.

    >>> dataset = DigitScenesDet(split="val", count=3, size=64)
    >>> sorted(dataset[0]["instances"][0])
    ['bbox', 'bbox_label', 'ignore_flag']
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": NAMES, "palette": [tuple(colour) for colour in PALETTE]}

    def _truth(self, scene: Scene) -> dict[str, Any]:
        pairs = zip(scene.boxes.tolist(), scene.digits.tolist())
        return {"instances": [{"bbox": box, "bbox_label": digit, "ignore_flag": 0} for box, digit in pairs]}

    def get_cat_ids(self, idx: int) -> list[int]:
        """List the digits in a scene."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]
