# UperNet on vision transformers, DeiT-B to DeiT-S, 160k iterations of 16 crops 512x512.
# The methods were published on ImageNet; these are mmseg's nearest networks, and their untaught figures are of its zoo.
# Teacher's weights, in mmseg's model zoo:
# upernet_deit-b16_512x512_160k_ade20k_20210621_180100-828705d7.pth (45.36).
_base_ = "mmseg::vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::vit/vit_deit-b16_upernet_8xb2-160k_ade20k-512x512.py",
    checkpoint=None,
)
reported_on = "val, 2000 images"
published = dict(
    data="ADE20K",
    teacher=("UperNet-DeiT-B", 45.36),
    student=("UperNet-DeiT-S", 42.87),
    source="mmseg's model zoo",
)
