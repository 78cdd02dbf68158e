# The camera student of KITTI, on one frame.
_base_ = [
    "../../_base_/models/kitti_camera.py",
    "../../_base_/datasets/kitti_frame.py",
    "../../_base_/schedules/adamw_40.py",
]
default_scope = "mmdet3d"
model = dict(img_backbone=dict(init_cfg=None))  # nothing is fetched
