# A fifth of the scenes, those that the student doubts, in four rounds; the teacher is asked about no other.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method="kl",
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="rad", budget=0.2, look=256)])]
