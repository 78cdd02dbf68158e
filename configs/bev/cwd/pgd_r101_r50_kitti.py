# CWD on the levels of the neck, from PGD with a ResNet-101 to the same with a ResNet-50.
_base_ = "../plain/pgd_r50_kitti.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py",
    method="cwd",
)
