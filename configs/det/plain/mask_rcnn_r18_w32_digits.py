# The teacher in instance segmentation: a Mask R-CNN on a ResNet-18 of half width, trained longer than its student.
_base_ = [
    "../../_base_/models/mask_rcnn_r18.py",
    "../../_base_/datasets/digits_instances.py",
    "../../_base_/schedules/adamw_600.py",
]
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)),
)
