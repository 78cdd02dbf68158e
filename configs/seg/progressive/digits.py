# A stage changes data and loss: scenes of other light and what the teacher sees, then plain scenes and what it says.
_base_ = "../plain/semantic_fpn_r18_w16_digits_domains.py"
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
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="stages", parts=[(0.5, 1), (1.0, 0)])])]
