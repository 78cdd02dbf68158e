# A smaller Deformable DETR learns what the queries of a wider one tell that are matched with its own: classes, boxes.
_base_ = "../plain/deformable_detr_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/deformable_detr_r18_w32_digits.py",
    method=dict(type="queries", layers=2),
)
