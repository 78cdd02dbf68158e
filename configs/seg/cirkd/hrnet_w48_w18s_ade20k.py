# CIRKD, HRNet-W48 to HRNet-W18s on ADE20K.
_base_ = "../../_base_/pairs/hrnet_w48_w18s_ade20k.py"
model = dict(method="cirkd")
published = dict(distilled=33.06)
