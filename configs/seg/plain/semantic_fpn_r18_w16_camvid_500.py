# The student of the table: a ResNet-18 of a quarter of the width, neck and head of half.
_base_ = [
    "../../_base_/models/semantic_fpn_r18_w16.py",
    "../../_base_/datasets/camvid_boundary.py",
    "../../_base_/schedules/adamw_500.py",
]
optim_wrapper = dict(optimizer=dict(lr=3e-3))
