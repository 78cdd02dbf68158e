# In a domain without labels the student learns by prototypes of the teacher's features, and from what they confirm.
_base_ = "student_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/teacher_digits.py",
    distills=[
        dict(
            loss=dict(type="prokd", self_training=1.0),
            student="decode_head.conv_seg",
            teacher="decode_head.conv_seg:in",
        )
    ],
)
