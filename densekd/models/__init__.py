"""Models, losses of heads and preprocessors that mmseg and mmdet do not have."""

from densekd.models.cutmix import CutMixPreProcessor
from densekd.models.efficientnet_lite import EfficientNetLite
from densekd.models.label_assisted import LabelAssistedEncoderDecoder
from densekd.models.mcmi import MCMILoss
from densekd.models.mixup import MixUpPreProcessor
from densekd.models.pruned import Pruned
from densekd.models.selfmix import SelfMixPreProcessor
from densekd.models.with_output import WithOutput

__all__ = [
    "CutMixPreProcessor",
    "EfficientNetLite",
    "LabelAssistedEncoderDecoder",
    "MCMILoss",
    "MixUpPreProcessor",
    "Pruned",
    "SelfMixPreProcessor",
    "WithOutput",
]
