# Plain distillation, from a teacher that was trained to tell more than the labels.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/teacher_digits.py",
    method="kl",
)
