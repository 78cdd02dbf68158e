# IFVD, DeepLabV3-R101 to DeepLabV3-R18 on Cityscapes.
_base_ = "../../_base_/pairs/deeplabv3_r101_r18_cityscapes.py"
model = dict(method="ifvd")
published = dict(distilled=75.59)
