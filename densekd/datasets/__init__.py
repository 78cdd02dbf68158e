"""Real data as mmseg and mmdet datasets: digit scenes that need no download, CamVid, BCCD."""

from densekd.datasets.bccd import BCCD
from densekd.datasets.camvid import CamVid
from densekd.datasets.digit_scenes import DigitScenesDet, DigitScenesSeg
from densekd.datasets.unlabelled import WithoutLabels

__all__ = ["BCCD", "CamVid", "DigitScenesDet", "DigitScenesSeg", "WithoutLabels"]
