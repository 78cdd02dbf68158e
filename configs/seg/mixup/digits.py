# Standardised logits on scenes of which some are mixed; the teacher sees the mixture.
_base_ = "student_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[dict(loss="std_kd", student="decode_head.conv_seg", class_weight="task")],
)
