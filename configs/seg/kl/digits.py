# Plain distillation of the logits, pixels of a class counted as in the task: what configs of policies begin with.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[dict(loss="kl", student="decode_head.conv_seg", class_weight="task")],
)
