# GFL, ResNet-101 to ResNet-50, 12 epochs.
# Teacher's weights, in mmdet's model zoo: gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth (44.7).
_base_ = "mmdet::gfl/gfl_r50_fpn_1x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("GFL-R101", 44.7),
    student=("GFL-R50", 40.2),
    source="FGD's README",
)
