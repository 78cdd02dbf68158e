# UniDistill from LiDAR to camera on KITTI: features, relations and responses, with the weights of its authors.
_base_ = "../plain/camera_kitti.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/pointpillars_kitti.py",
    method="unidistill",
)
