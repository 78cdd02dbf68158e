# The student: a ResNet-18 of an eighth of the width.
_base_ = [
    "../../_base_/models/gfl_r18.py",
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_250.py",
]
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64]),
    bbox_head=dict(num_classes=10),
)
