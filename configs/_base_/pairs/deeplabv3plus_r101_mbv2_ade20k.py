# DeepLabV3+, ResNet-101 to MobileNetV2, 80k iterations of 16 crops 512x512; the teacher had 160k.
# Teacher's weights, in mmseg's model zoo:
# deeplabv3plus_r101-d8_512x512_160k_ade20k_20200615_123232-38ed86bb.pth (45.47).
_base_ = "../../seg/plain/deeplabv3plus_mbv2_ade20k.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb4-160k_ade20k-512x512.py",
    checkpoint=None,
)
reported_on = "val, 2000 images"
published = dict(
    data="ADE20K",
    teacher=("DeepLabV3+-R101", 45.47),
    student=("DeepLabV3+-MBv2", 31.56),
    source="BPKD's README",
)
