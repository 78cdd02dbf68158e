# Scenes of two domains, drawn by the gap between student and teacher on each.
_base_ = "../plain/semantic_fpn_r18_w16_digits_domains.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[dict(loss="kl", student="decode_head.conv_seg", class_weight="task")],
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="ddk", every=100)])]
