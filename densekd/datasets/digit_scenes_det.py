"""The digit scenes as an mmdet dataset."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset
from pycocotools import mask as coco

from densekd.datasets.digit_scenes import NAMES, PALETTE, Scenes
from densekd.datasets.digits import INKS, Scene, draw
from densekd.registry import DATASETS
from kdlosses import nearest

ATTRIBUTES = (*INKS, "small", "large")
LARGE = 3 / 8
"""Height of a large digit, in sides of the scene."""


@DATASETS.register_module()
class DigitScenesDet(Scenes, BaseDetDataset):
    """Digit scenes for mmdet: ten classes, boxes as `instances`, see `densekd.datasets.digits.draw`.

    With `metainfo=dict(classes=...)` it has boxes of these digits alone, with labels in their order; the others stay in
    the images.

    Args:
        with_masks: give each instance its mask as well, the stroke of the digit, run-length encoded as COCO's are.
        with_attributes: draw digits in colours with a name, and say which of `ATTRIBUTES` each has: six colours, and
            whether it is small or large, which a box of 3/8 of the side or higher is. With
            `metainfo=dict(attributes=...)` it says so of these alone. See `densekd.LoadAttributes`.
        **kwargs: see `densekd.datasets.digit_scenes.Scenes`.

    Raises:
        ValueError: a class that is no digit, an attribute that no digit has, or attributes without `with_attributes`.

    >>> dataset = DigitScenesDet(split="val", count=3, size=64, with_masks=True)
    >>> sorted(dataset[0]["instances"][0])
    ['bbox', 'bbox_label', 'ignore_flag', 'mask']
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": NAMES, "palette": [tuple(colour) for colour in PALETTE]}

    def __init__(self, *args: Any, with_masks: bool = False, with_attributes: bool = False, **kwargs: Any) -> None:
        self.with_masks, self.with_attributes = with_masks, with_attributes
        about = dict(kwargs.pop("metainfo", None) or {})
        if with_attributes:
            about.setdefault("attributes", ATTRIBUTES)
        elif "attributes" in about:
            raise ValueError(
                "digits have attributes with_attributes=True: give it beside metainfo=dict(attributes=...)"
            )
        for name in about.get("attributes", ()):
            if name not in ATTRIBUTES:
                raise ValueError(f"digit scenes have no attribute {name!r}; {nearest(name, ATTRIBUTES)}")
        super().__init__(*args, metainfo=about, **kwargs)
        self._labels()

    def scene(self, index: int) -> Scene:
        """Draw scene `index`."""
        return draw(index, self.split, self.size, self.seed, inks=self.with_attributes)

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
        for box, digit, ink, mask in zip(scene.boxes.tolist(), scene.digits.tolist(), scene.inks.tolist(), masks):
            if digit in labels:
                instance = {"bbox": box, "bbox_label": labels[digit], "ignore_flag": 0}
                if mask is not None:
                    instance["mask"] = _run_lengths(mask)
                if self.with_attributes:
                    has = list(INKS)[ink], "large" if box[3] - box[1] >= LARGE * self.size else "small"
                    instance["attributes"] = [int(name in has) for name in self.metainfo["attributes"]]
                instances.append(instance)
        found: dict[str, Any] = {"instances": instances}
        return {**found, "attribute_names": tuple(self.metainfo["attributes"])} if self.with_attributes else found

    def get_cat_ids(self, idx: int) -> list[int]:
        """List the digits in a scene."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}
