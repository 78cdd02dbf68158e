# The student of benchmarks/dense_cache.py: 1,000 digit scenes, resized by chance and cropped; 300 steps.
_base_ = [
    "../../_base_/models/semantic_fpn_r18_w16.py",
    "../../_base_/datasets/digits_seg_boundary.py",
    "../../_base_/schedules/adamw_300.py",
]
# nine pixels of ten are background
model = dict(decode_head=dict(loss_decode=dict(class_weight=[0.1] + 10 * [1.0])))
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
