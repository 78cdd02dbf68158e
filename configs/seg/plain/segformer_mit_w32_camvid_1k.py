# The teacher of the table: a SegFormer of the width of its smallest, two blocks a stage, trained twice as long.
_base_ = [
    "../../_base_/models/segformer_mit.py",
    "../../_base_/datasets/camvid_boundary.py",
    "../../_base_/schedules/adamw_1k.py",
]
model = dict(
    backbone=dict(embed_dims=32, num_layers=[2, 2, 2, 2]),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=128),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
