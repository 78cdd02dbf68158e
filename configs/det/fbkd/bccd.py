# Features where both attend, their means, and relations of positions, on the levels of the neck.
_base_ = "../plain/gfl_r18_w16_bccd.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r34_w24_bccd.py",
    method="fbkd",
)
