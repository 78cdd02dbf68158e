# BCCD at 256 x 192, two fifths of its resolution; the boxes are scored in the coordinates of the full-size image.
data_root = "{{$KD_DATA_ROOT:data}}/BCCD/BCCD"
reported_on = "test, 72 images that no setting was chosen on"
scale = (256, 192)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=scale, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(160, 224)),
    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    # 'instances' hands the ground truth to the metric, which then needs no annotation file
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances")),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="densekd.BCCD",
        data_root=data_root,
        ann_file="ImageSets/Main/train.txt",
        data_prefix=dict(sub_data_root=""),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="densekd.BCCD",
        data_root=data_root,
        ann_file="ImageSets/Main/val.txt",
        data_prefix=dict(sub_data_root=""),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="densekd.BCCD",
        data_root=data_root,
        ann_file="ImageSets/Main/test.txt",
        data_prefix=dict(sub_data_root=""),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator
