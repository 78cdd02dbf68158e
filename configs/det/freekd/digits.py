# FreeKD on the levels of the neck. Prompts are learned before, by `densekd tokens --frequency`, and given by
# `--cfg-options model.method.learned=FOLDER`; without them every mask is 1/2.
_base_ = "../plain/gfl_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r18_w32_digits.py",
    method=dict(type="freekd"),
)
