# The teacher: of twice the width, trained longer on the same labels, tested in the second domain as well.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/digits_seg_unlabelled.py",
    "../../_base_/schedules/adamw_1k.py",
]
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    # nine pixels of ten are background
    decode_head=dict(loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1] + 10 * [1.0])),
)
