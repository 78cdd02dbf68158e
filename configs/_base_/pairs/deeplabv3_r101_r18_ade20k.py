# DeepLabV3, ResNet-101 to ResNet-18.
# SGD 0.02, 40k iterations of 16 crops 512x512, say 4 processes of 4 images.
# The authors' teacher (42.70) is of another code; nearest in mmseg's model zoo:
# deeplabv3_r101-d8_512x512_80k_ade20k_20200615_021256-d89c7fa4.pth (44.08).
_base_ = "../../seg/plain/deeplabv3_r18_ade20k.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::deeplabv3/deeplabv3_r101-d8_4xb4-80k_ade20k-512x512.py",
    checkpoint=None,
)
reported_on = "val, 2000 images"
published = dict(
    data="ADE20K",
    teacher=("DeepLabV3-R101", 42.70),
    student=("DeepLabV3-R18", 33.91),
    source="CIRKD's README, first version",
)
