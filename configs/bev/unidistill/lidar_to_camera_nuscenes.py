# UniDistill from LiDAR to camera on nuScenes: features, relations and responses, with the weights of its authors.
_base_ = "../plain/camera_nuscenes.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/centerpoint_nuscenes.py",
    method="unidistill",
)
