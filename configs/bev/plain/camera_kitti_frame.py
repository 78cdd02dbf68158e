# The camera student of KITTI, on one frame.
_base_ = [
    "../../_base_/models/kitti_camera.py",
    "../../_base_/datasets/kitti_frame.py",
    "../../_base_/schedules/adamw_60.py",
]
default_scope = "mmdet3d"
settling = dict(type="BN", eps=1e-3, momentum=0.3)  # running statistics have sixty iterations
model = dict(
    img_backbone=dict(init_cfg=None),  # nothing is fetched
    pts_backbone=dict(norm_cfg=settling),
    pts_neck=dict(norm_cfg=settling),
)
