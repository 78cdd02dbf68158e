# ACAM-KD, DeepLabV3-R101 to DeepLabV3-R18 on Cityscapes.
_base_ = "../../_base_/pairs/deeplabv3_r101_r18_cityscapes.py"
model = dict(method="acam")
published = dict(student=("DeepLabV3-R18", 72.96), source="ACAM-KD's paper", distilled=77.53)
