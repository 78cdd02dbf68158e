# CIRKD, PSPNet-R101 to PSPNet-R18 on ADE20K.
_base_ = "../../_base_/pairs/pspnet_r101_r18_ade20k.py"
model = dict(method="cirkd")
published = dict(distilled=35.07)
