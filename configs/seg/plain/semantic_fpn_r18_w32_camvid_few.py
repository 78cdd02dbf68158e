# A ResNet-18 of half width on 20 labelled frames, with a backbone from scratch or one that `densekd pretrain` left.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/camvid_few.py",
    "../../_base_/schedules/adamw_200.py",
]
model = dict(backbone=dict(base_channels=32, stem_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))
