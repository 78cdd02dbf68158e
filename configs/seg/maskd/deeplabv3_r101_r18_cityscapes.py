# MasKD, DeepLabV3-R101 to DeepLabV3-R18 on Cityscapes.
_base_ = "../../_base_/pairs/deeplabv3_r101_r18_cityscapes.py"
model = dict(method="maskd")
published = dict(source="MasKD's README", distilled=77.00)
