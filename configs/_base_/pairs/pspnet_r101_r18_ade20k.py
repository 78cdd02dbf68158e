# PSPNet, ResNet-101 to ResNet-18, 80k iterations of 16 crops 512x512; the teacher had 160k.
# Teacher's weights, in mmseg's model zoo:
# pspnet_r101-d8_512x512_160k_ade20k_20200615_100650-967c316f.pth (44.39).
_base_ = "../../seg/plain/pspnet_r18_ade20k.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::pspnet/pspnet_r101-d8_4xb4-160k_ade20k-512x512.py",
    checkpoint=None,
)
reported_on = "val, 2000 images"
published = dict(
    data="ADE20K",
    teacher=("PSPNet-R101", 44.39),
    student=("PSPNet-R18", 33.30),
    source="BPKD's README",
)
