# The student of benchmarks/dense_cache.py: 1,000 digit scenes, resized by chance and cropped; 300 steps.
_base_ = [
    "../../_base_/models/semantic_fpn_r18.py",
    "../../_base_/datasets/digits_seg_boundary.py",
    "../../_base_/schedules/adamw_300.py",
]
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    decode_head=dict(
        in_channels=[32, 32, 32, 32],
        channels=32,
        # nine pixels of ten are background
        loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1] + 10 * [1.0]),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
train_dataloader = dict(
    dataset=dict(
        count=1000,
        pipeline=[
            dict(type="RandomResize", scale=(64, 64), ratio_range=(1.0, 1.3)),
            dict(type="RandomCrop", crop_size=(64, 64)),
            dict(type="PackSegInputs"),
        ],
    )
)
