# DeepLabV3 with ResNet-101 to PSPNet with ResNet-18. 40k iterations of 16 crops 360x360.
# There are no weights of this teacher in mmseg's model zoo: train it first, or let tools/compare.py do so.
# The published figures are of val or of test, the authors' table and script disagree; here there is no test split.
_base_ = "../../seg/plain/pspnet_r18_camvid.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/deeplabv3_r101_camvid.py",
    checkpoint=None,
)
published = dict(
    data="CamVid",
    teacher=("DeepLabV3-R101", 69.84),
    student=("PSPNet-R18", 66.73),
    source="CIRKD's README, first version",
)
