# A wide and a deep teacher, each masked before its logits for the student, and a gate that selects among them.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(
        wide="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
        deep="{{fileDirname}}/../plain/semantic_fpn_r34_w16_digits.py",
    ),
    distills=[
        dict(
            loss=dict(type="mst_distill", teachers=2, mask=0),
            student="decode_head.conv_seg",
            source=["wide", "deep"],
            class_weight="task",
        )
    ],
)
custom_hooks = [dict(type="densekd.Policies", policies=["mst_distill"])]
