# A quarter of the scenes at random, in as many steps; labels count a quarter, the teacher, which knows all, 1.75 times.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method="kl",
)
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="pruned", keep=0.25)])]
