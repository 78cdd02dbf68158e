# A student from scratch and a teacher with ImageNet's features. The teacher had the labels of all frames, the student
# has those of a quarter; of its other 221 images the teacher alone can tell: densekd compare 'seg/*/camvid_quarter'
_base_ = "../../seg/plain/semantic_fpn_r18_w16_camvid_quarter.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/semantic_fpn_lite0_camvid_enlarged.py",
)
