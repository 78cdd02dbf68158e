# CamVid at half resolution with labels of 74 frames, every fourth; the other 221 of the same drives are images alone.
# Half of each batch has labels. The last fifth of each training drive chooses, the val frames only report.
_base_ = "camvid_held_out.py"
split = dict(
    type="densekd.CamVid",
    data_root=_base_.data_root,
    data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
    part=(0.0, 0.8),
    count=74,
)
images = [
    dict(type="LoadImageFromFile"),
    dict(type="densekd.WithoutLabels"),
    dict(type="RandomResize", scale=_base_.scale, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(160, 208)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type="mmdet.MultiSourceSampler", batch_size=8, source_ratio=[1, 1]),
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[dict(**split, pipeline=_base_.train_pipeline), dict(**split, rest=True, pipeline=images)],
    ),
)
