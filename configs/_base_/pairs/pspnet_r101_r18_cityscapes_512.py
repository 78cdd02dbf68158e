# PSPNet, ResNet-101 to ResNet-18, 40k iterations of 16 crops 512x512, as 8 processes of 2 (MGD's).
# Teacher's weights, in mmseg's model zoo:
# pspnet_r101-d8_512x1024_40k_cityscapes_20200604_232751-467e7cf4.pth (78.34).
_base_ = "../../seg/plain/pspnet_r18_cityscapes_512.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py",
    checkpoint=None,
)
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("PSPNet-R101", 78.34),
    student=("PSPNet-R18", 69.85),
    source="MGD's README",
)
