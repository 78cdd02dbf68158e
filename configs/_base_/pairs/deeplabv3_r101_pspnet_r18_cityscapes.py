# DeepLabV3 with ResNet-101 to PSPNet with ResNet-18.
# The setting of CIRKD, DIST, MasKD and ACAM-KD: SGD 0.02, 40k iterations of 16 crops 512x1024, as 4
# processes of 4 images. Their teacher's weights (78.07) are of another code; nearest in mmseg's model zoo:
# deeplabv3_r101-d8_512x1024_40k_cityscapes_20200605_012241-7fd3f799.pth (77.12).
_base_ = "mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-40k_cityscapes-512x1024.py",
    checkpoint=None,
)
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=1e-4))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(max_iters=40000, val_interval=4000)
train_dataloader = dict(batch_size=4)
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("DeepLabV3-R101", 78.07),
    student=("PSPNet-R18", 72.55),
    source="CIRKD's README, first version",
)
