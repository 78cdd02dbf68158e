"""The digit scenes as an mmdet dataset."""

from __future__ import annotations

from typing import Any, ClassVar

from mmdet.datasets import BaseDetDataset

from densekd.datasets.digit_scenes import NAMES, PALETTE, Scenes
from densekd.datasets.digits import Scene
from densekd.registry import DATASETS
from kdlosses import nearest


@DATASETS.register_module()
class DigitScenesDet(Scenes, BaseDetDataset):
    """Digit scenes for mmdet: ten classes, boxes as `instances`, see `densekd.datasets.digits.draw`.

    With `metainfo=dict(classes=...)` it has boxes of these digits alone, with labels in their order; the others stay in
    the images.

    Raises:
        ValueError: a class that is no digit.

    >>> dataset = DigitScenesDet(split="val", count=3, size=64)
    >>> sorted(dataset[0]["instances"][0])
    ['bbox', 'bbox_label', 'ignore_flag']
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": NAMES, "palette": [tuple(colour) for colour in PALETTE]}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
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
        pairs = zip(scene.boxes.tolist(), scene.digits.tolist())
        known = [(box, labels[digit]) for box, digit in pairs if digit in labels]
        return {"instances": [{"bbox": box, "bbox_label": label, "ignore_flag": 0} for box, label in known]}

    def get_cat_ids(self, idx: int) -> list[int]:
        """List the digits in a scene."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]
