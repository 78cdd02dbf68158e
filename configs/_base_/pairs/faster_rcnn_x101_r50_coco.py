# Cascade Mask R-CNN on a deformable ResNeXt-101 to Faster R-CNN on a ResNet-50, 24 epochs.
# Teacher's weights, in mmdet's model zoo: cascade_mask_rcnn_x101_32x4d_fpn_dconv_c3-c5_1x_coco-e75f90c8.pth (47.3).
_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::dcn/cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("Cascade Mask R-CNN-X101", 47.3),
    student=("Faster R-CNN-R50", 38.4),
    source="FGD's README",
)
