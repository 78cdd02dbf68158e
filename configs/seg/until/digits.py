# CWD for the first half of the training; then the student is on its own, and its teacher does not run.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[
        dict(
            loss=dict(type="until", loss=dict(type="cwd", tau=4.0), stop=0.5),
            student="decode_head.conv_seg",
            weight=3.0,
        )
    ],
)
