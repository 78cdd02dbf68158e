# PGD, ResNet-101 to ResNet-50.
_base_ = "../../bev/plain/pgd_r50_kitti.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py",
)
