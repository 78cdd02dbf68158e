# The student's last three snapshots vote; there is no other teacher.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(one="past", two="past", three="past"),
    distills=[
        dict(loss="average", student="decode_head.conv_seg", source=["one", "two", "three"], class_weight="task")
    ],
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="snapshots", every=50)])]
