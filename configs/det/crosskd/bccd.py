# Features of the student's head go on through the last convolution and the last layers of the teacher's.
_base_ = "../plain/gfl_r18_w16_bccd.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r34_w24_bccd.py",
    method="crosskd",
)
