# Scenes of two domains, drawn by the gap between student and teacher on each.
_base_ = "../plain/semantic_fpn_r18_w16_digits_domains.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method="kl",
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="ddk", every=100)])]
