# CamVid at half resolution in small crops, measured on all pixels and on those within three pixels of an edge.
_base_ = "camvid.py"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(240, 180), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(96, 128), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = [dict(type="IoUMetric", iou_metrics=["mIoU"]), dict(type="densekd.BoundaryIoU", width=3)]
test_evaluator = val_evaluator
