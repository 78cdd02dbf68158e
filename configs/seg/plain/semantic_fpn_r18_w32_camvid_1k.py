# The teacher of the table: a ResNet-18 of half width, trained twice as long as its student.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/camvid_boundary.py",
    "../../_base_/schedules/adamw_1k.py",
]
model = dict(backbone=dict(base_channels=32, stem_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
