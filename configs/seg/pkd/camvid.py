# PKD on the levels of the neck. From scratch and under a short schedule, features teach more than logits do.
_base_ = "../plain/semantic_fpn_r18_w16_camvid.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_camvid.py",
    distills=[dict(loss="pkd", student="neck", weight=10.0)],
)
