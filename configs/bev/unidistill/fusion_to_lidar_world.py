# UniDistill from both sensors to LiDAR: features, relations and responses, with the weights of its authors.
_base_ = "../plain/lidar_world_400.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/fusion_world.py",
    method="unidistill",
)
