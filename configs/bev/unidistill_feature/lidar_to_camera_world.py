# One loss of UniDistill alone: feature.
_base_ = "../plain/camera_world.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/lidar_world.py",
    method=dict(type="unidistill", relation=0, response=0),
)
