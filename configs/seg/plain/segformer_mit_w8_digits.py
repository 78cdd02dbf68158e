# The student: a quarter of the width of MiT-B0, one block a stage.
_base_ = [
    "../../_base_/models/segformer_mit.py",
    "../../_base_/datasets/digits_seg.py",
    "../../_base_/schedules/adamw_600.py",
]
model = dict(
    backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1], drop_path_rate=0.0),
    decode_head=dict(
        in_channels=[8, 16, 40, 64],
        channels=32,
        # nine pixels of ten are background
        loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1] + 10 * [1.0]),
    ),
)
