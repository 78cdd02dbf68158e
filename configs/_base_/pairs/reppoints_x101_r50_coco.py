# RepPoints, deformable ResNeXt-101 to ResNet-50, 24 epochs.
# Teacher's weights, in mmdet's model zoo:
# reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck+head_2x_coco_20200329-f87da1ea.pth (44.2).
_base_ = "mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet::reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py",
    checkpoint=None,
)
reported_on = "val2017, 5,000 images; the labels of the test set are not public"
published = dict(
    data="COCO",
    teacher=("RepPoints-X101", 44.2),
    student=("RepPoints-R50", 38.6),
    source="FGD's README",
)
