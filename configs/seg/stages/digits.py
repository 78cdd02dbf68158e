# From the general to the specific: what the teacher sees first, what it says after that.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[
        dict(
            loss=dict(type="stages", losses=[(0.5, "pkd"), (1.0, None)]),
            student="neck",
            weight=10.0,
            name="features",
        ),
        dict(
            loss=dict(type="stages", losses=[(0.5, None), (1.0, dict(type="cwd", tau=4.0))]),
            student="decode_head.conv_seg",
            weight=3.0,
            name="logits",
        ),
    ],
)
