# A smaller Mask2Former learns what the queries of a wider one tell that are matched with its own: classes and masks.
_base_ = "../plain/mask2former_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/mask2former_r18_w32_digits.py",
    method="queries",
)
