# UniDistill from LiDAR to camera: features, relations and responses, with the weights of its authors.
_base_ = "../plain/camera_world.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/lidar_world.py",
    method="unidistill",
)
