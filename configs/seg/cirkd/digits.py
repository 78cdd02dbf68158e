# CIRKD on the logits and the feature before them, with the weights of its authors.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method="cirkd",
)
