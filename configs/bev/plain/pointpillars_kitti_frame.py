# mmdet3d's PointPillars, on one frame of KITTI.
_base_ = [
    "mmdet3d::_base_/models/pointpillars_hv_secfpn_kitti.py",
    "../../_base_/datasets/kitti_frame.py",
    "../../_base_/schedules/adamw_40.py",
]
default_scope = "mmdet3d"
