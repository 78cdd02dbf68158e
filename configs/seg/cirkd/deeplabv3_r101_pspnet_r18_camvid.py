# CIRKD, DeepLabV3-R101 to PSPNet-R18 on CamVid.
_base_ = "../../_base_/pairs/deeplabv3_r101_pspnet_r18_camvid.py"
model = dict(method="cirkd")
published = dict(distilled=68.65)
