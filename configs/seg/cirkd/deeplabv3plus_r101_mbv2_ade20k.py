# CIRKD, DeepLabV3+-R101 to DeepLabV3+-MBv2 on ADE20K.
_base_ = "../../_base_/pairs/deeplabv3plus_r101_mbv2_ade20k.py"
model = dict(method="cirkd")
published = dict(distilled=32.24)
