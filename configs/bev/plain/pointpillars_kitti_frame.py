# mmdet3d's PointPillars, on one frame of KITTI.
_base_ = [
    "mmdet3d::_base_/models/pointpillars_hv_secfpn_kitti.py",
    "../../_base_/datasets/kitti_frame.py",
    "../../_base_/schedules/adamw_60.py",
]
default_scope = "mmdet3d"
settling = dict(eps=1e-3, momentum=0.3)  # running statistics have sixty iterations
model = dict(
    voxel_encoder=dict(norm_cfg=dict(type="BN1d", **settling)),
    backbone=dict(norm_cfg=dict(type="BN", **settling)),
    neck=dict(norm_cfg=dict(type="BN", **settling)),
)
