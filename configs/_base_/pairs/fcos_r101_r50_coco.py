# FCOS, ResNet-101 to ResNet-50, 24 epochs of several scales. FGD's student also has centred boxes and GIoU.
# Teacher's weights, in mmdet's model zoo: fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth (40.8).
_base_ = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("FCOS-R101", 40.8),
    student=("FCOS-R50", 38.5),
    source="FGD's README",
)
