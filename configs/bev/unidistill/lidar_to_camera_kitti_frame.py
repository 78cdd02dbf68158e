# UniDistill from LiDAR to camera on one frame of KITTI: `python tools/bev_maps.py` draws what it leaves.
_base_ = "../plain/camera_kitti_frame.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/pointpillars_kitti_frame.py",
    method="unidistill",
)
