# CIRKD, PSPNet-R101 to PSPNet-R18 on Pascal Context-59.
_base_ = "../../_base_/pairs/pspnet_r101_r18_context59.py"
model = dict(method="cirkd")
published = dict(distilled=45.62)
