# CIRKD, HRNet-W48 to HRNet-W18s on Cityscapes.
_base_ = "../../_base_/pairs/hrnet_w48_w18s_cityscapes.py"
model = dict(method="cirkd")
published = dict(distilled=77.36)
