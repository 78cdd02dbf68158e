# ATSS, ResNet-101 to ResNet-50, 12 epochs.
# Teacher's weights, in mmdet's model zoo: atss_r101_fpn_1x_20200825-dfcadd6f.pth (41.5).
_base_ = "mmdet::atss/atss_r50_fpn_1x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::atss/atss_r101_fpn_1x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("ATSS-R101", 41.5),
    student=("ATSS-R50", 39.4),
    source="CrossKD's README",
)
