# One loss of UniDistill alone: relation.
_base_ = "../plain/camera_world.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/fusion_world.py",
    method=dict(type="unidistill", feature=0, response=0),
)
