"""Models, losses of heads and preprocessors that mmseg and mmdet do not have."""

from densekd.models.cutmix import CutMixPreProcessor
from densekd.models.efficientnet_lite import EfficientNetLite
from densekd.models.label_assisted import LabelAssistedEncoderDecoder
from densekd.models.mcmi import MCMILoss
from densekd.models.mix_distribution import MixDistributionPreProcessor
from densekd.models.mixup import MixUpPreProcessor
from densekd.models.pruned import Pruned
from densekd.models.selfmix import SelfMixPreProcessor
from densekd.models.with_output import WithOutput
from densekd.models.without_layers import WithoutLayers
from densekd.registry import MODELS, needs_mmdet

try:
    from densekd.models.ezad import EZADRoIHead, TextClassifier, TextRegression
    from densekd.models.lpld import LPLD
    from densekd.models.mean_teacher import MeanTeacher
    from densekd.models.ovarnet import OvarNetRoIHead
    from densekd.models.soft_teacher import SoftTeacher
    from densekd.models.wscol import WSCoL
except ModuleNotFoundError as error:  # segmentation needs neither mmdet nor mmcv's operators
    if error.name not in ("mmdet", "mmcv._ext"):
        raise
    needs_mmdet("this model", MODELS, "EZADRoIHead", "LPLD", "MeanTeacher", "OvarNetRoIHead", "SoftTeacher", "WSCoL")

__all__ = [
    "LPLD",
    "CutMixPreProcessor",
    "EZADRoIHead",
    "EfficientNetLite",
    "LabelAssistedEncoderDecoder",
    "MCMILoss",
    "MeanTeacher",
    "MixDistributionPreProcessor",
    "MixUpPreProcessor",
    "OvarNetRoIHead",
    "Pruned",
    "SelfMixPreProcessor",
    "SoftTeacher",
    "TextClassifier",
    "TextRegression",
    "WSCoL",
    "WithOutput",
    "WithoutLayers",
]
