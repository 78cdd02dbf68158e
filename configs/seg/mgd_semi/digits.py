# A wide and a deep teacher learn beside the student, all from an eighth of the labels and from each other.
_base_ = "student_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(
        wide="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
        deep="{{fileDirname}}/deep_digits.py",
    ),
    method="mgd_semi",
)
