# CamVid at a third of the resolution: 20 labelled frames of two drives, chosen on frames of one of them, reported on a
# drive that nothing else has seen.
_base_ = "camvid.py"
reported_on = "drive 0006R0, 101 frames that nothing else has seen"
scale = (160, 120)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=scale, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(96, 128), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations"),  # after the resize: the labels stay at full size
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(drives=["0001TP", "0016E5"], count=20, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="densekd.CamVid",
        data_root="{{$KD_DATA_ROOT:data}}/CamVid",
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
        drives=["0006R0"],
        pipeline=test_pipeline,
    ),
)
