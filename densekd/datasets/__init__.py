"""Real data as mmseg and mmdet datasets: digit scenes that need no download, CamVid, BCCD."""

from typing import Any

from densekd.datasets.camvid import CamVid
from densekd.datasets.digit_scenes import DigitScenesSeg
from densekd.datasets.unlabelled import WithoutLabels
from densekd.registry import DATASETS

try:
    from densekd.datasets.bccd import BCCD
    from densekd.datasets.digit_scenes_det import DigitScenesDet
except ModuleNotFoundError as error:  # segmentation does not need mmdet
    if error.name != "mmdet":
        raise

    def needs_mmdet(**options: Any) -> None:
        """Stand where a data set of mmdet would.

        Raises:
            ImportError: says what to install.
        """
        raise ImportError("this data set needs mmdet: pip install 'graphdensekd[detection]'")

    for name in ("BCCD", "DigitScenesDet"):
        DATASETS.register_module(name=name, module=needs_mmdet)

__all__ = ["BCCD", "CamVid", "DigitScenesDet", "DigitScenesSeg", "WithoutLabels"]
