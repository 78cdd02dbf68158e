# DeepLabV3+, ResNet-101 to MobileNetV2, 80k iterations of 16 crops 480x480.
# Teacher's weights, in mmseg's model zoo:
# deeplabv3plus_r101-d8_480x480_80k_pascal_context_59_20210416_111127-7ca0331d.pth (53.20).
_base_ = "../../seg/plain/deeplabv3plus_mbv2_context59.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb4-80k_pascal-context-59-480x480.py",
    checkpoint=None,
)
reported_on = "val, 5105 images"
published = dict(
    data="Pascal Context-59",
    teacher=("DeepLabV3+-R101", 53.20),
    student=("DeepLabV3+-MBv2", 41.01),
    source="BPKD's README",
)
