# CIRKD, DeepLabV3-R101 to DeepLabV3-MBv2 on Cityscapes.
_base_ = "../../_base_/pairs/deeplabv3_r101_mbv2_cityscapes.py"
model = dict(method="cirkd")
published = dict(distilled=75.42)
