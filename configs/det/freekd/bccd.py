# FreeKD on the levels of the neck. Prompts are learned before, by `densekd tokens --frequency`, and given by
# `--cfg-options model.method.learned=FOLDER`; without them every mask is 1/2.
_base_ = "../plain/gfl_r18_w16_bccd.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r34_w24_bccd.py",
    method=dict(type="freekd"),
)
