# CIRKD, DeepLabV3-R101 to DeepLabV3-R18 on Cityscapes.
_base_ = "../../_base_/pairs/deeplabv3_r101_r18_cityscapes.py"
model = dict(method="cirkd")
published = dict(distilled=76.38)
