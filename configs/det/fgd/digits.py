# Objects, background and relations on the levels of the neck, with the weights of its authors for one-stage detectors.
_base_ = "../plain/gfl_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r18_w32_digits.py",
    method="fgd",
)
