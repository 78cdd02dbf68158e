# The student: a ResNet-18 of a quarter of the width, under the teacher's schedule with half its batch.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/camvid.py",
    "../../_base_/schedules/adamw_1500.py",
]
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=32),
)
train_dataloader = dict(batch_size=4)
