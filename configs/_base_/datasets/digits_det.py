# Digit scenes with boxes, 64 x 64, drawn on the fly: no download.
reported_on = "test, 200 scenes of digits that are in no training scene"
scenes = dict(type="densekd.DigitScenesDet", size=64)
boxes = dict(type="LoadAnnotations", with_bbox=True)
# 'instances' hands the ground truth to the metric, which then needs no annotation file
pack = dict(
    type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances")
)
one_scale = dict(type="Resize", scale_factor=1.0)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(**scenes, split="train", count=2000, pipeline=[boxes, dict(type="PackDetInputs")]),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**scenes, split="val", count=200, pipeline=[one_scale, boxes, pack], test_mode=True),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**scenes, split="test", count=200, pipeline=[one_scale, boxes, pack], test_mode=True),
)
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator
