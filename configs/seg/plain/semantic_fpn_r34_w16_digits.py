# A second teacher: a ResNet-34 of the student's width, trained as long as the first.
_base_ = "semantic_fpn_r18_w32_digits.py"
model = dict(
    backbone=dict(depth=34, base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
