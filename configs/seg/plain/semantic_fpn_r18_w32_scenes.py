# The teacher of the table: a ResNet-18 of half width, trained longer than its student.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/digits_seg_boundary.py",
    "../../_base_/schedules/adamw_1k.py",
]
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    # nine pixels of ten are background
    decode_head=dict(loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1] + 10 * [1.0])),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
