# RetinaNet, ResNet-101 to ResNet-50, 24 epochs.
# Teacher's weights, in mmdet's model zoo: retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth (38.9).
_base_ = "mmdet::retinanet/retinanet_r50_fpn_2x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::retinanet/retinanet_r101_fpn_2x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("RetinaNet-R101", 38.9),
    student=("RetinaNet-R50", 37.4),
    source="FreeKD's README",
)
