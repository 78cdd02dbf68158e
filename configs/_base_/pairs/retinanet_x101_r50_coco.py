# RetinaNet, ResNeXt-101 to ResNet-50, 24 epochs.
# Teacher's weights, in mmdet's model zoo: retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth (41.0).
_base_ = "mmdet::retinanet/retinanet_r50_fpn_2x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("RetinaNet-X101", 41.0),
    student=("RetinaNet-R50", 37.4),
    source="FGD's README",
)
