# PSPNet on a ResNet-18, 40k iterations of square crops.
_base_ = [
    "mmseg::_base_/models/pspnet_r50-d8.py",
    "../../_base_/datasets/cityscapes_512.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_40k.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained="open-mmlab://resnet18_v1c",
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
