# DeepLabV3 on a ResNet-18, CIRKD's schedule: SGD 0.02, 40k iterations of 16 crops.
_base_ = "mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512.py"
model = dict(
    pretrained="open-mmlab://resnet18_v1c",
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=1e-4))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(max_iters=40000, val_interval=4000)
