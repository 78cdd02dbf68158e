# The same pair, with the figures of mmrazor.
_base_ = "pspnet_r101_r18_cityscapes.py"
published = dict(teacher=("PSPNet-R101", 79.76), student=("PSPNet-R18", 74.87), source="mmrazor's README")
