# The camera student of nuScenes.
_base_ = [
    "../../_base_/models/nuscenes_camera.py",
    "../../_base_/datasets/nuscenes_both.py",
    "../../_base_/schedules/adamw_20e.py",
]
default_scope = "mmdet3d"
