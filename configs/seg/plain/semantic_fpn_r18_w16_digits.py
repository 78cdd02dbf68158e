# The student: a ResNet-18 of a quarter of the width, neck and head of half.
_base_ = [
    "../../_base_/models/semantic_fpn_r18_w16.py",
    "../../_base_/datasets/digits_seg.py",
    "../../_base_/schedules/adamw_600.py",
]
# nine pixels of ten are background
model = dict(decode_head=dict(loss_decode=dict(class_weight=[0.1] + 10 * [1.0])))
