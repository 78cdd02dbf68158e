# One student from scratch and one teacher with ImageNet's features, both with labels of the same 74 frames; the student
# sees images of 221 more, of which the teacher alone can tell: densekd compare 'seg/*/camvid_quarter'
_base_ = "../../seg/plain/semantic_fpn_r18_w16_camvid_quarter.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/semantic_fpn_lite0_camvid_quarter.py",
)
