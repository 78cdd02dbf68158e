# DeepLabV3+, ResNet-101 to MobileNetV2, 80k iterations of 8 crops 512x1024.
# The authors' table links the weights of DeepLabV3; parameters and mIoU in it are those of DeepLabV3+.
# Teacher's weights, in mmseg's model zoo:
# deeplabv3plus_r101-d8_512x1024_80k_cityscapes_20200606_114143-068fcfe9.pth (80.97).
_base_ = "mmseg::mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb2-80k_cityscapes-512x1024.py",
    checkpoint=None,
)
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("DeepLabV3+-R101", 80.98),
    student=("DeepLabV3+-MBv2", 75.29),
    source="BPKD's README",
)
