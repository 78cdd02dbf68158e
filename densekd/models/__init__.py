"""Models, losses of heads and preprocessors that mmseg and mmdet do not have."""

from densekd.models.cutmix import CutMixPreProcessor
from densekd.models.efficientnet_lite import EfficientNetLite
from densekd.models.label_assisted import LabelAssistedEncoderDecoder
from densekd.models.mcmi import MCMILoss
from densekd.models.mix_distribution import MixDistributionPreProcessor
from densekd.models.mixup import MixUpPreProcessor
from densekd.models.selfmix import SelfMixPreProcessor
from densekd.models.with_output import WithOutput
from densekd.models.without_layers import WithoutLayers

__all__ = [
    "CutMixPreProcessor",
    "EfficientNetLite",
    "LabelAssistedEncoderDecoder",
    "MCMILoss",
    "MixDistributionPreProcessor",
    "MixUpPreProcessor",
    "SelfMixPreProcessor",
    "WithOutput",
    "WithoutLayers",
]
