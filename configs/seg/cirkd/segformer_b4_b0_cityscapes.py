# CIRKD, SegFormer-B4 to SegFormer-B0 on Cityscapes.
_base_ = "../../_base_/pairs/segformer_b4_b0_cityscapes.py"
model = dict(method="cirkd")
published = dict(distilled=76.92)
