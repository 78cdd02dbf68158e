# The teacher: a SegFormer of four times the width and twice the depth, trained longer than its student.
_base_ = [
    "../../_base_/models/segformer_mit.py",
    "../../_base_/datasets/digits_seg.py",
    "../../_base_/schedules/adamw_1500.py",
]
model = dict(
    backbone=dict(embed_dims=32, num_layers=[2, 2, 2, 2]),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        # nine pixels of ten are background
        loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1] + 10 * [1.0]),
    ),
)
