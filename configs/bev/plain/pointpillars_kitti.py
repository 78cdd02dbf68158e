# mmdet3d's PointPillars; its released weights load into it.
_base_ = [
    "mmdet3d::_base_/models/pointpillars_hv_secfpn_kitti.py",
    "../../_base_/datasets/kitti_both.py",
    "../../_base_/schedules/adamw_20e.py",
]
default_scope = "mmdet3d"
