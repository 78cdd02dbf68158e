# The teacher with real features: ImageNet's Lite2, whole frames at half resolution, 600 iterations.
_base_ = [
    "../../_base_/models/semantic_fpn_lite2.py",
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
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
