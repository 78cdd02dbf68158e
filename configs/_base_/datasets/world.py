# The synthetic world: boxes on a plane seen by LiDAR and camera, drawn on the fly.
custom_imports = dict(imports=["densekd.bev.registered"])
reported_on = "test, 200 scenes that are in no training set"
in_range = dict(type="PointsRangeFilter", point_cloud_range=[0.0, -16.0, -3.0, 32.0, 16.0, 2.0])
scenes = dict(type="densekd.SyntheticWorld")
load = dict(type="LoadAnnotations3D", with_bbox_3d=True, with_label_3d=True)
pack = dict(type="Pack3DDetInputs", keys=["points", "img", "gt_bboxes_3d", "gt_labels_3d"])
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(**scenes, split="train", count=2000, pipeline=[load, in_range, pack]),
)
test_pipeline = [
    in_range,
    dict(type="Pack3DDetInputs", keys=["points", "img"]),
]
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**scenes, split="val", count=200, pipeline=test_pipeline, test_mode=True),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**scenes, split="test", count=200, pipeline=test_pipeline, test_mode=True),
)
val_evaluator = dict(type="densekd.BEVAP")
test_evaluator = val_evaluator
