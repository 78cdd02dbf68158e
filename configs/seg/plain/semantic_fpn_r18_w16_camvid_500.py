# The student of the table: a ResNet-18 of a quarter of the width, neck and head of half.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/camvid_boundary.py",
    "../../_base_/schedules/adamw_500.py",
]
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=32),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
