"""Networks that mmseg and mmdet do not have."""

from densekd.models.label_assisted import LabelAssistedEncoderDecoder

__all__ = ["LabelAssistedEncoderDecoder"]
