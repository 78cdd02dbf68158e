# G2SD: what the teacher's decoder holds, then what it decides.
_base_ = "../plain/segformer_mit_w8_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/segformer_mit_w32_digits.py",
    method="g2sd",
)
