# Half of the training by labels alone; then the teacher where it is surer than the student was by then, else that.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(trained="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py", before="past"),
    distills=[
        dict(loss="partition", student="decode_head.conv_seg", source=["trained", "before"], class_weight="task")
    ],
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="snapshots", at=0.5)])]
