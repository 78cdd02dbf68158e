# A student of four bits a weight, trained so beside a teacher in full precision.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method="kl",
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="quantised", bits=4)])]
