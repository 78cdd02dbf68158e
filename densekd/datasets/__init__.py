"""Real data as mmseg and mmdet datasets: digit scenes that need no download, CamVid, BCCD."""

from densekd.datasets.camvid import CamVid
from densekd.datasets.digit_scenes import DigitScenesSeg
from densekd.datasets.shifted import Shifted
from densekd.datasets.unlabelled import WithoutLabels
from densekd.registry import DATASETS, TRANSFORMS, needs_mmdet

try:
    from densekd.datasets.attributes import CocoAttributes, LoadAttributes, PackAttributes
    from densekd.datasets.bccd import BCCD
    from densekd.datasets.digit_scenes_det import DigitScenesDet
except ModuleNotFoundError as error:  # segmentation does not need mmdet
    if error.name != "mmdet":
        raise
    needs_mmdet("this data set", DATASETS, "BCCD", "CocoAttributes", "DigitScenesDet")
    needs_mmdet("this transform", TRANSFORMS, "LoadAttributes", "PackAttributes")

__all__ = [
    "BCCD",
    "CamVid",
    "CocoAttributes",
    "DigitScenesDet",
    "DigitScenesSeg",
    "LoadAttributes",
    "PackAttributes",
    "Shifted",
    "WithoutLabels",
]
