# The student in instance segmentation: a Mask R-CNN on a ResNet-18 of a quarter of the width.
_base_ = [
    "../../_base_/models/mask_rcnn_r18.py",
    "../../_base_/datasets/digits_instances.py",
    "../../_base_/schedules/adamw_400.py",
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)))
