# Spatial attention of the stages of the backbone and of the levels of the neck, from a teacher of twice the width.
_base_ = "../plain/gfl_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r18_w32_digits.py",
    method="sad",
)
