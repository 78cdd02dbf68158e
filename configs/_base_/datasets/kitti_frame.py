# One frame of KITTI, trained on and looked at: what a detector makes of a frame that it knows by heart.
_base_ = "kitti_both.py"
reported_on = "the frame that was trained on"
data_root = "{{$KD_DATA_ROOT:data}}/mmdet3d-demo/kitti/"
frame = dict(data_root=data_root, ann_file="000008.pkl", data_prefix=dict(_delete_=True, pts="", img=""))
loader = dict(batch_size=1, num_workers=0, dataset=frame)
train_dataloader = dict(sampler=dict(_delete_=True, type="InfiniteSampler"), **loader)
val_dataloader = loader
test_dataloader = loader
