# The teacher with real features: ImageNet's Lite0, whole frames at half resolution, 600 iterations. Poles, signs and
# people are few pixels: classes weigh the square root of median frequency balancing, counted on the training frames.
_base_ = [
    "../../_base_/models/semantic_fpn_lite0.py",
    "../../_base_/datasets/camvid_held_out.py",
    "../../_base_/schedules/adamw_600.py",
]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(240, 180), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(176, 240), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
class_weight = [0.53, 0.45, 2.19, 0.39, 1.0, 0.65, 1.96, 1.4, 0.89, 2.52, 2.98]
model = dict(decode_head=dict(loss_decode=dict(class_weight=class_weight)))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
