# GFL, ResNet-101 to ResNet-18, 12 epochs.
# Teacher's weights, in mmdet's model zoo: gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth (44.7).
_base_ = "mmdet::gfl/gfl_r50_fpn_1x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=dict(
        **{key: value for key, value in _base_.model.items() if key not in ("backbone", "neck")},
        backbone=dict(
            **{key: value for key, value in _base_.model.backbone.items() if key not in ("depth", "init_cfg")},
            depth=18,
            init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
        ),
        neck=dict(
            **{key: value for key, value in _base_.model.neck.items() if key != "in_channels"},
            in_channels=[64, 128, 256, 512],
        ),
    ),
    teacher="mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("GFL-R101", 44.7),
    student=("GFL-R18", 35.8),
    source="LD's README",
)
