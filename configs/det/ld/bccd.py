# Distributions of the sides of boxes where there are objects and near them, and their classes.
_base_ = "../plain/gfl_r18_w16_bccd.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r34_w24_bccd.py",
    method="ld",
)
