# mmdet3d's CenterPoint, on one frame of nuScenes.
_base_ = [
    "../../_base_/models/nuscenes_centerpoint.py",
    "../../_base_/datasets/nuscenes_frame.py",
    "../../_base_/schedules/adamw_60.py",
]
default_scope = "mmdet3d"
settling = dict(eps=1e-3, momentum=0.3)  # running statistics have sixty iterations
model = dict(
    pts_voxel_encoder=dict(norm_cfg=dict(type="BN1d", **settling)),
    pts_backbone=dict(norm_cfg=dict(type="BN", **settling)),
    pts_neck=dict(norm_cfg=dict(type="BN", **settling)),
)
