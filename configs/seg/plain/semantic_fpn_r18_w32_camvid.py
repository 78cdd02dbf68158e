# The teacher: a ResNet-18 of half width, trained almost four times as long as its student.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/camvid.py",
    "../../_base_/schedules/adamw_1500.py",
]
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=32),
)
