# The mean prediction of two teachers: the trained one and the student's own moving average.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(trained="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py", own="ema"),
    momentum=0.99,
    distills=[dict(loss="meal", student="decode_head.conv_seg", source=["trained", "own"])],
)
