# ACAM-KD, DeepLabV3-R101 to DeepLabV3-MBv2 on Cityscapes.
_base_ = "../../_base_/pairs/deeplabv3_r101_mbv2_cityscapes.py"
model = dict(method="acam")
published = dict(source="ACAM-KD's paper", distilled=76.21)
