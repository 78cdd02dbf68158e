# The student is its teacher without two residual blocks of four, which `kdlosses.rules.prune_layers` chose with
# share=0.4. It begins with the teacher's weights where they are given: model.student.weights=teacher.pth.
_base_ = "../plain/semantic_fpn_r18_w32_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=dict(type="densekd.WithoutLayers", of=_base_.model, layers=["backbone.layer3.1", "backbone.layer4.1"]),
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    distills=[
        dict(loss="kl", student="decode_head.conv_seg"),
        dict(loss="norm_feature", student="backbone:2", name="stage3"),
        dict(loss="norm_feature", student="backbone:3", name="stage4"),
    ],
)
