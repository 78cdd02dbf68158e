# DeepLabV3 with ResNet-101 to PSPNet with ResNet-18.
# SGD 0.02, 40k iterations of 16 crops 512x512, say 4 processes of 4 images.
# The authors' teacher (77.67) is of another code; nearest in mmseg's model zoo:
# deeplabv3_r101-d8_512x512_40k_voc12aug_20200613_161432-0017d784.pth (77.92).
_base_ = "../../seg/plain/pspnet_r18_voc.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::deeplabv3/deeplabv3_r101-d8_4xb4-40k_voc12aug-512x512.py",
    checkpoint=None,
)
reported_on = "val, 1449 images"
published = dict(
    data="Pascal VOC",
    teacher=("DeepLabV3-R101", 77.67),
    student=("PSPNet-R18", 73.33),
    source="CIRKD's README, first version",
)
