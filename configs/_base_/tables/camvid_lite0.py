# One student from scratch and one teacher with ImageNet's features: densekd compare 'seg/*/camvid_lite0'
_base_ = "../../seg/plain/semantic_fpn_r18_w16_camvid_held_out.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/semantic_fpn_lite0_camvid.py",
)
