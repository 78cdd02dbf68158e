# BPKD, PSPNet-R101 to PSPNet-R18 on Cityscapes.
_base_ = "../../_base_/pairs/pspnet_r101_r18_cityscapes.py"
model = dict(method="bpkd")
published = dict(distilled=77.57)
