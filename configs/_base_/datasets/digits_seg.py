# Digit scenes, 64 x 64, drawn on the fly: no download.
reported_on = "test, 200 scenes of digits that are in no training scene"
scenes = dict(type="densekd.DigitScenesSeg", size=64)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(**scenes, split="train", count=2000, pipeline=[dict(type="PackSegInputs")]),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**scenes, split="val", count=200, pipeline=[dict(type="PackSegInputs")]),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**scenes, split="test", count=200, pipeline=[dict(type="PackSegInputs")]),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
