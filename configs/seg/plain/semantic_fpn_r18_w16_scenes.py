# The student of the table: a ResNet-18 of a quarter of the width, neck and head of half.
_base_ = [
    "../../_base_/models/semantic_fpn_r18_w16.py",
    "../../_base_/datasets/digits_seg_boundary.py",
    "../../_base_/schedules/adamw_400.py",
]
# nine pixels of ten are background
model = dict(decode_head=dict(loss_decode=dict(class_weight=[0.1] + 10 * [1.0])))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
