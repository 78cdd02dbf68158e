# PKD on the levels of the neck, its weight growing over the first fifth of the training.
_base_ = "../plain/gfl_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r18_w32_digits.py",
    distills=[dict(loss=dict(type="ramp", loss="pkd", over=(0.0, 0.2)), student="neck", weight=10.0)],
)
