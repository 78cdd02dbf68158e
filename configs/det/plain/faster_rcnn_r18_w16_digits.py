# A two-stage detector on digit scenes: the source of source-free adaptations.
_base_ = [
    "../../_base_/models/faster_rcnn_r18.py",
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_600.py",
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
