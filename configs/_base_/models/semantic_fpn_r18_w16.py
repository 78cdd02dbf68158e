# A ResNet-18 of a quarter of the width, neck and head of half, from scratch.
_base_ = "semantic_fpn_r18.py"
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=32),
)
