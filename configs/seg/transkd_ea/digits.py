# TransKD with embedding assistants.
_base_ = "../plain/segformer_mit_w8_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/segformer_mit_w32_digits.py",
    method="transkd_ea",
)
