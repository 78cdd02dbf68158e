# The student made of queries: a Deformable DETR on a ResNet-18 of a quarter of the width.
_base_ = [
    "../../_base_/models/deformable_detr_r18.py",
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_400.py",
]
model = dict(bbox_head=dict(num_classes=10))
