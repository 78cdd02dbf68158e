# The student: an eighth of the width in the backbone, a quarter in neck and head.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/digits_seg.py",
    "../../_base_/schedules/adamw_250.py",
]
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
)
