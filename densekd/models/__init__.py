"""Models and preprocessors that mmseg and mmdet do not have."""

from densekd.models.cutmix import CutMixPreProcessor
from densekd.models.label_assisted import LabelAssistedEncoderDecoder

__all__ = ["CutMixPreProcessor", "LabelAssistedEncoderDecoder"]
