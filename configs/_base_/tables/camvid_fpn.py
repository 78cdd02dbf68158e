# One student and one teacher for all methods, convolutional: densekd compare 'seg/*/camvid_fpn'
_base_ = "../../seg/plain/semantic_fpn_r18_w16_camvid_500.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/semantic_fpn_r18_w32_camvid_1k.py",
)
