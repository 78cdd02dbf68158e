# PSPNet-R18, and the same network told the label for a teacher: SGD 0.02, 40k iterations of 16 crops 512x512.
# Train the teacher first, from its own config, or let tools/compare.py do so.
_base_ = "../../seg/plain/pspnet_r18_voc.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/lad/teacher_pspnet_r18_voc.py",
    checkpoint=None,
)
reported_on = "val, 1449 images"
published = dict(
    data="Pascal VOC",
    teacher=("PSPNet-R18, told the label", None),
    student=("PSPNet-R18", 73.33),
    source="LAD's README",
)
