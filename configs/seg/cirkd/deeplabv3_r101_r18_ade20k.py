# CIRKD, DeepLabV3-R101 to DeepLabV3-R18 on ADE20K.
_base_ = "../../_base_/pairs/deeplabv3_r101_r18_ade20k.py"
model = dict(method="cirkd")
published = dict(distilled=35.41)
