# TransKD with embedding assistants, SegFormer-B2 to SegFormer-B0 from scratch on Cityscapes.
_base_ = "../../_base_/pairs/segformer_b2_b0_cityscapes.py"
model = dict(method="transkd_ea")
published = dict(distilled=68.98)
