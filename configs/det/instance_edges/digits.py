# The levels of the neck near the outlines of instances and inside of them, each with a weight of its own.
_base_ = "../plain/mask_rcnn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/mask_rcnn_r18_w32_digits.py",
    distills=[
        dict(loss="pkd", student="neck", where="boundary", width=1, name="edge", weight=6.0),
        dict(loss="pkd", student="neck", where="body", width=1, name="body", weight=3.0),
    ],
)
