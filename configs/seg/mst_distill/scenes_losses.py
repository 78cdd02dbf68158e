# A wide and a deep teacher, each masked before its logits for the student, and a gate that selects among them.
_base_ = "../../_base_/tables/scenes_losses.py"
model = dict(
    teacher=dict(
        _delete_=True,
        wide="{{fileDirname}}/../plain/semantic_fpn_r18_w32_scenes.py",
        deep="{{fileDirname}}/../plain/semantic_fpn_r34_w16_scenes.py",
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
