"""Real data as mmseg and mmdet datasets: digit scenes that need no download, CamVid, BCCD."""

from typing import Any

from densekd.datasets.camvid import CamVid
from densekd.datasets.digit_scenes import DigitScenesSeg
from densekd.datasets.unlabelled import WithoutLabels
from densekd.registry import DATASETS

try:
    from densekd.datasets.bccd import BCCD
    from densekd.datasets.digit_scenes_det import DigitScenesDet
except ModuleNotFoundError as error:  # segmentation needs neither mmdet nor mmcv's operators
    if error.name not in ("mmdet", "mmcv._ext"):
        raise
    said = str(error) if error.name == "mmcv._ext" else "pip install 'graphdensekd[detection]' brings mmdet"

    def needs_mmdet(**options: Any) -> None:
        """Stand where a data set of mmdet would.

        Raises:
            ImportError: says what to install.
        """
        raise ImportError(f"this data set is for mmdet: {said}")

    for name in ("BCCD", "DigitScenesDet"):
        DATASETS.register_module(name=name, module=needs_mmdet)

__all__ = ["BCCD", "CamVid", "DigitScenesDet", "DigitScenesSeg", "WithoutLabels"]
