# The teacher with real features and the same labels as its students, 74 frames: 400 iterations of 4 whole frames, which
# it enlarges. ImageNet's objects are larger than those of a small frame, and edges are finer at stride 2.
_base_ = [
    "../../_base_/models/semantic_fpn_lite0.py",
    "../../_base_/datasets/camvid_held_out.py",
    "../../_base_/schedules/adamw_400.py",
]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(240, 180), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(176, 240), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=4, dataset=dict(count=74, pipeline=train_pipeline))
# by the square root of median frequency balancing, as for the teacher of all frames
class_weight = [0.53, 0.45, 2.19, 0.39, 1.0, 0.65, 1.96, 1.4, 0.89, 2.52, 2.98]
model = dict(backbone=dict(enlarge=2), decode_head=dict(loss_decode=dict(class_weight=class_weight)))
