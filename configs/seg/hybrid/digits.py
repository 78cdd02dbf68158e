# Hybrid distillation: relations of tokens half way up, tokens of the last block.
_base_ = "../plain/segformer_mit_w8_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/segformer_mit_w32_digits.py",
    method="hybrid",
)
