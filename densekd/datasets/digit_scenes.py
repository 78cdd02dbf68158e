"""The digit scenes as an mmseg dataset; `digit_scenes_det` has them for mmdet."""

from __future__ import annotations

from typing import Any, ClassVar

from mmengine.dataset import BaseDataset
from mmseg.datasets import BaseSegDataset

from densekd.datasets.digits import Scene, Split, draw
from densekd.registry import DATASETS

PALETTE = [
    *([230, 25, 75], [60, 180, 75], [255, 225, 25], [67, 99, 216], [245, 130, 49]),
    *([145, 30, 180], [66, 212, 244], [240, 50, 230], [191, 239, 69], [250, 190, 212]),
]
NAMES = tuple(f"digit {digit}" for digit in range(10))


class Scenes(BaseDataset):
    """Base of both data sets: `count` scenes of one split, drawn on access.

    Args:
        split: `'train'`, `'val'` or `'test'`; no digit image is in two of them.
        count: how many scenes.
        size: side of a scene in pixels.
        seed: another seed gives another data set.
        **kwargs: of the mmseg or mmdet dataset: `pipeline`, `test_mode`, ... The pipeline starts without
            `LoadImageFromFile`: the image is loaded, in BGR as mmcv reads it.

    Raises:
        ValueError: an unknown split, an impossible size, no scene at all.
    """

    def __init__(self, split: Split = "train", count: int = 500, size: int = 96, seed: int = 0, **kwargs: Any) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.split, self.count, self.size, self.seed = split, count, size, seed
        self.scene(0)
        super().__init__(**kwargs)

    def scene(self, index: int) -> Scene:
        """Draw scene `index`."""
        return draw(index, self.split, self.size, self.seed)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the scenes by number, without drawing them."""
        return [{"scene": index, "img_id": index} for index in range(self.count)]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Draw a scene, in the format of mmcv's loaders."""
        info = super().get_data_info(idx)
        scene = self.scene(info["scene"])
        shape = scene.image.shape[:2]
        info.update(
            img=scene.image[..., ::-1].copy(), img_shape=shape, ori_shape=shape, height=shape[0], width=shape[1]
        )
        return {**info, "img_path": f"{self.split}-{info['scene']:05}", **self._truth(scene)}

    def _truth(self, scene: Scene) -> dict[str, Any]:
        raise NotImplementedError


@DATASETS.register_module()
class DigitScenesSeg(Scenes, BaseSegDataset):
    """Digit scenes for mmseg: background and ten digits, 11 classes, see `densekd.datasets.digits.draw`.

    >>> dataset = DigitScenesSeg(split="val", count=3, size=64)
    >>> dataset[0]["gt_seg_map"].shape, len(dataset.metainfo["classes"])
    ((64, 64), 11)
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": ("background", *NAMES), "palette": [[40, 40, 40], *PALETTE]}

    def _truth(self, scene: Scene) -> dict[str, Any]:
        return {"gt_seg_map": scene.mask.copy(), "seg_fields": ["gt_seg_map"], "reduce_zero_label": False}
