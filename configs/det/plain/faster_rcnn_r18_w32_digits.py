# A two-stage teacher: a ResNet-18 of half width, trained longer than its student.
_base_ = [
    "../../_base_/models/faster_rcnn_r18.py",
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_1k.py",
]
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    roi_head=dict(bbox_head=dict(num_classes=10)),
)
