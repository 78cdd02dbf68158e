# The camera student of KITTI.
_base_ = [
    "../../_base_/models/kitti_camera.py",
    "../../_base_/datasets/kitti_both.py",
    "../../_base_/schedules/adamw_20e.py",
]
default_scope = "mmdet3d"
