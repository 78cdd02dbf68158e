# PSPNet on a ResNet-18, CIRKD's schedule: SGD 0.02, 40k iterations of 16 crops 360x360.
_base_ = [
    "mmseg::_base_/models/pspnet_r50-d8.py",
    "../../_base_/datasets/camvid_360.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_40k.py",
]
model = dict(
    data_preprocessor=dict(size=(360, 360)),
    pretrained="open-mmlab://resnet18_v1c",
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=11),
)
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=1e-4))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, begin=0, end=40000, by_epoch=False)]
