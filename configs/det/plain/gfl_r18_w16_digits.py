# The student: a ResNet-18 of a quarter of the width.
_base_ = [
    "../../_base_/models/gfl_r18.py",
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_400.py",
]
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
    bbox_head=dict(num_classes=10),
)
