# CIRKD, PSPNet-R101 to PSPNet-R18 on Cityscapes.
_base_ = "../../_base_/pairs/pspnet_r101_r18_cityscapes.py"
model = dict(method="cirkd")
published = dict(distilled=76.03)
