# Labels and teacher in a ratio of its own at each pixel, learned on a fifth of the scenes, not learned from.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[dict(loss="tgeo", student="decode_head.conv_seg", class_weight="task")],
    task_weight=0.0,
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="tgeo", every=10)])]
