# SKD, SegFormer-B4 to SegFormer-B0 on Cityscapes.
_base_ = "../../_base_/pairs/segformer_b4_b0_cityscapes.py"
model = dict(method="skd")
published = dict(distilled=76.43)
