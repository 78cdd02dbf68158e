"""The digit scenes as an mmdet dataset."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset
from pycocotools import mask as coco

from densekd.datasets.digit_scenes import NAMES, PALETTE, Scenes
from densekd.datasets.digits import Scene
from densekd.registry import DATASETS
from kdlosses import nearest


@DATASETS.register_module()
class DigitScenesDet(Scenes, BaseDetDataset):
    """Digit scenes for mmdet: ten classes, boxes as `instances`, see `densekd.datasets.digits.draw`.

    With `metainfo=dict(classes=...)` it has boxes of these digits alone, with labels in their order; the others stay in
    the images.

    Args:
        with_masks: give each instance its mask as well, the stroke of the digit, run-length encoded as COCO's are.
        **kwargs: see `densekd.datasets.digit_scenes.Scenes`.

    Raises:
        ValueError: a class that is no digit.

    >>> dataset = DigitScenesDet(split="val", count=3, size=64, with_masks=True)
    >>> sorted(dataset[0]["instances"][0])
    ['bbox', 'bbox_label', 'ignore_flag', 'mask']
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": NAMES, "palette": [tuple(colour) for colour in PALETTE]}

    def __init__(self, *args: Any, with_masks: bool = False, **kwargs: Any) -> None:
        self.with_masks = with_masks
        super().__init__(*args, **kwargs)
        self._labels()

    def _labels(self) -> dict[int, int]:
        """The label of each digit that has one."""
        classes = self.metainfo["classes"]
        for name in classes:
            if name not in NAMES:
                raise ValueError(f"digit scenes have no class {name!r}; {nearest(name, NAMES)}")
        return {NAMES.index(name): label for label, name in enumerate(classes)}

    def _truth(self, scene: Scene) -> dict[str, Any]:
        labels = self._labels()
        instances = []
        masks = scene.instances() if self.with_masks else [None] * len(scene.boxes)
        for box, digit, mask in zip(scene.boxes.tolist(), scene.digits.tolist(), masks):
            if digit in labels:
                instance = {"bbox": box, "bbox_label": labels[digit], "ignore_flag": 0}
                instances.append(instance if mask is None else {**instance, "mask": _run_lengths(mask)})
        return {"instances": instances}

    def get_cat_ids(self, idx: int) -> list[int]:
        """List the digits in a scene."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}
