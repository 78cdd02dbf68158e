# CWD on the levels of the neck, from FCOS3D with a ResNet-101 to the same with a ResNet-50.
_base_ = "../plain/fcos3d_r50_nuscenes.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py",
    method="cwd",
)
