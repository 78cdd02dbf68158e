# DKD on the sigmoids of the class branch inside of boxes; the label of each is what the detector's own assigner says.
_base_ = "../plain/gfl_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r18_w32_digits.py",
    distills=[
        dict(loss="dkd", student="bbox_head.gfl_cls", where="boxes", weight=dict(type="auto", ratio=0.5)),
    ],
)
