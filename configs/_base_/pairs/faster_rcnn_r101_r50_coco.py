# Faster R-CNN, ResNet-101 to ResNet-50, 12 epochs.
# Teacher's weights, in mmdet's model zoo: faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth (39.4).
_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("Faster R-CNN-R101", 39.4),
    student=("Faster R-CNN-R50", 37.4),
    source="mmrazor's README",
)
