# One loss of UniDistill alone: response.
_base_ = "../plain/camera_world.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/lidar_world.py",
    method=dict(type="unidistill", feature=0, relation=0),
)
