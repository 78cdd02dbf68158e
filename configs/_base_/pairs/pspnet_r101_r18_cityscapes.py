# PSPNet, ResNet-101 to ResNet-18, 80k iterations of 8 crops 512x1024.
# The published figure without a teacher is of mmseg's ResNet-18b; students that were taught, as the one here, are of
# ResNet-18, which mmseg has at 74.87.
# Teacher's weights, in mmseg's model zoo:
# pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth (79.76).
_base_ = "mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py",
    checkpoint=None,
)
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("PSPNet-R101", 79.74),
    student=("PSPNet-R18", 74.23),
    source="BPKD's README",
)
