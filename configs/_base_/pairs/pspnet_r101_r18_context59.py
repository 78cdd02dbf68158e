# PSPNet, ResNet-101 to ResNet-18, 80k iterations of 16 crops 480x480.
# Teacher's weights, in mmseg's model zoo:
# pspnet_r101-d8_480x480_80k_pascal_context_59_20210416_114418-fa6caaa2.pth (52.47).
_base_ = "../../seg/plain/pspnet_r18_context59.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::pspnet/pspnet_r101-d8_4xb4-80k_pascal-context-59-480x480.py",
    checkpoint=None,
)
reported_on = "val, 5105 images"
published = dict(
    data="Pascal Context-59",
    teacher=("PSPNet-R101", 52.47),
    student=("PSPNet-R18", 43.79),
    source="BPKD's README",
)
