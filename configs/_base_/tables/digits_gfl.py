# One-stage detectors, one student and one teacher for all methods: densekd compare 'det/*/digits_gfl'
_base_ = "../../det/plain/gfl_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../det/plain/gfl_r18_w32_digits.py",
)
