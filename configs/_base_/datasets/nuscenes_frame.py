# One frame of nuScenes, trained on and looked at: what a detector makes of a frame that it knows by heart.
_base_ = "nuscenes_both.py"
reported_on = "the frame that was trained on"
data_root = "{{$KD_DATA_ROOT:data}}/mmdet3d-demo/nuscenes/"
frame = dict(
    data_root=data_root,
    ann_file="n015-2018-07-24-11-22-45+0800.pkl",
    data_prefix=dict(_delete_=True, pts="", **dict.fromkeys(_base_.cameras, "")),
)
loader = dict(batch_size=1, num_workers=0, dataset=frame)
train_dataloader = dict(sampler=dict(_delete_=True, type="InfiniteSampler"), **loader)
val_dataloader = loader
test_dataloader = loader
# nuScenes' own metric wants its tables, which a single frame comes without
val_evaluator = dict(_delete_=True, type="densekd.BEVAP", thresholds=[0.5, 0.25])
test_evaluator = val_evaluator
